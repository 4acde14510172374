// Package machine looks at the computer it runs on: what other programs use of its processor, whether it runs on
// battery, memory and disk. Each figure says when a system does not tell it.
package machine
