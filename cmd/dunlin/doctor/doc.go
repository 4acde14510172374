// Package doctor looks for what is wrong with a machine that is to train, or with its network, and says how to mend it:
// processor, memory, disk, data folder, ports, clock, router. What it judges by is apart from how it looks, so that tests
// need no such machine.
package doctor
