//go:build !linux && !darwin && !windows

package machine

import "fmt"

func busySeconds() (float64, error) { return 0, fmt.Errorf("processor use: %w", ErrUntold) }

func onBattery() (bool, error) { return false, fmt.Errorf("power supply: %w", ErrUntold) }

// Memory is not told here.
func Memory() (total, free uint64, err error) { return 0, 0, fmt.Errorf("memory: %w", ErrUntold) }
