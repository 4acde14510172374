package compute

// Sizes are the largest of a training's operations, by which a device can tell
// the memory that it will take for itself.
type Sizes struct {
	Rows      int // of a batch
	Width     int // values of a row of activations
	Vocab     int // rows of the head
	Positions int // of a window
	Head      int // values of an attention head
}

// Bounded is a device that takes attention heads only up to a size.
type Bounded interface {
	MaxHead() int // values
}
