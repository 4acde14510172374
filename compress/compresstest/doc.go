// Package compresstest is the conformance suite of codecs: every codec of package
// compress, present or future, passes the same checks of error bounds, sizes,
// determinism, allocation and refusal of bad frames.
package compresstest
