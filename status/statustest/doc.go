// Package statustest opens the browser in which pages are tested.
package statustest
