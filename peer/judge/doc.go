// Package judge measures the held-out loss of a run's committed states, on a coordinator's device, beside everything else.
package judge
