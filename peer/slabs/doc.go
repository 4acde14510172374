// Package slabs holds a worker's part of a round's bytes: Codecs encodes its contributions and, as an owner, sums slabs,
// beside the inner loop; Slabs has the frames that others fetch from here and those fetched from others.
package slabs
