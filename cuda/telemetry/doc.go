// Package telemetry reads how the cards of this machine do: use, memory,
// temperature, power and what holds their clocks down, as NVIDIA's management
// library (NVML) tells it. That library comes with the driver and is called
// through cuda/loader; where there is none, Open returns ErrNone and everything
// works without.
package telemetry
