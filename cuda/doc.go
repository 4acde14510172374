// Package cuda is a GPU as a compute.Device: it turns each operation into
// launches of the embedded kernels (cuda/kernels) on a card that cuda/driver
// opened, the machine's own or the emulated one of cuda/ptxemu.
//
// Work. All work of a Device is queued on one stream in the order of the calls;
// a call returns when it is queued. Lists of work that come again step by step are
// replayed as graphs of the driver. Upload, Download and SumSquares go through
// pinned memory; Download and SumSquares wait. A Device is used by one goroutine
// at a time, which need not stay on one thread, since cuda/driver makes the card
// current with each call.
//
// Memory. Alloc takes memory of the card and keeps what Free returns for the next
// Alloc of that size. Scratch grows once to the largest shape seen. A steady step
// allocates neither on the card nor on the host.
//
// Errors. What goes wrong on the card is kept, and reported by the next Sync,
// Alloc or Download; until then operations do nothing. After driver.ErrDeviceLost
// a Device stays broken and only Close helps; its owner opens another one.
//
// Bits. Results are functions of arguments and shapes; there is no float atomic
// operation. Devices of one precision agree bit for bit on cards of one
// architecture, and with the processor to rounding.
package cuda
