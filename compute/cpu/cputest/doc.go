// Package cputest gives tests a device to compute on.
package cputest
