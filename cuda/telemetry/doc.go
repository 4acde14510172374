// Package telemetry reads how the cards of this machine do: use, memory,
// temperature, power and what holds their clocks down, as NVIDIA's management
// library (NVML) tells it. That library is called through NVIDIA/go-nvml, which
// needs cgo: only builds for Linux with cgo have telemetry, others return
// ErrNone, and everything works without.
package telemetry
