// Package invite reads and prints the one line of text that lets a volunteer
// join a run: which run, who coordinates it, where to find it and, for a
// private run, the secret that admits.
//
//	dunlin1:<base32>                     the token
//	https://example.org/join#dunlin1:…   the same as a link; the part after # never reaches the server
//	dunlin:dunlin1:…                     the same as a link that opens dunlin
//
// The base32 (RFC 4648, lower case, no padding; case and white space do not
// matter when read) holds length(2, big endian) body checksum(4): body is the
// Token as canonical CBOR, the checksum the first bytes of SHA-256 over length
// and body. Length tells a truncated token from a mistyped one.
package invite
