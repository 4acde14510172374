// Package mailbox holds the queues through which the goroutines of a peer talk, and what their loops wait by.
package mailbox
