package plan

import "math"

// The sizes for which the scaling laws of DiLoCo were fitted (Charles et al. 2025, table 4 and section 4): on C4,
// with a vocabulary of 32,768, twenty tokens a parameter, H = 30.
const (
	lawFrom = 35e6
	lawTo   = 4e9
)

// lawHolds reports whether a model of that many parameters is one the laws were fitted for.
func lawHolds(parameters float64) bool { return parameters >= lawFrom && parameters <= lawTo }

// loss predicts nats a token: the joint law of size and replicas, what tokens other than twenty a parameter change by
// the form of Hoffmann et al. (2022, approach 3), and the slope over H of Streaming DiLoCo's tables 1 and 2, 0.6 % from
// 30 to 100.
func loss(parameters, replicas, tokens, h float64) float64 {
	chinchilla := func(d float64) float64 {
		return 1.69 + 406.4*math.Pow(parameters, -0.34) + 410.7*math.Pow(d, -0.28)
	}
	joint := 19.226 * math.Pow(parameters, -0.0985) * math.Pow(replicas, 0.0116)
	return joint * chinchilla(tokens) / chinchilla(20*parameters) * math.Pow(math.Max(h, 1)/30, 0.005)
}

// bestBatch is the best global batch in tokens, and bestRate the best inner learning rate, both by the joint laws.
func bestBatch(parameters, replicas float64) float64 {
	return 14.521 * math.Pow(parameters, 0.4695) * math.Pow(replicas, 0.3399)
}

func bestRate(parameters, replicas float64) float64 {
	return 22256 * math.Pow(parameters, -0.8827) * math.Pow(replicas, 0.2929)
}
