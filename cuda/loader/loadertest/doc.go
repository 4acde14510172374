// Package loadertest builds stand-ins for libraries of NVIDIA's driver, so that
// tests exercise the real calling convention without a card.
package loadertest
