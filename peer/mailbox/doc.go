// Package mailbox holds the queues through which the goroutines of a peer talk.
package mailbox
