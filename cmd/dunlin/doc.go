// Command dunlin lets people train one language model together over ordinary internet links.
//
// Each command has a file of its own that turns a Config into a call of a package and prints the result; decisions
// live in the packages. Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.
package main
