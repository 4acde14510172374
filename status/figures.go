package status

import (
	"math"
	"strconv"
	"strings"
)

// Unknown stands for a figure that is not known.
const Unknown = "–"

// web/figures.js says the same in the page; a test compares the two.

// Figure prints a number with three significant figures. From 10,000 on it has
// an SI step (k, M, B, T), below 1,000 a whole number stays whole.
func Figure(v float64) string {
	r, exponent := significant(v)
	switch a := math.Abs(r); {
	case math.IsNaN(r):
		return Unknown
	case a >= 10_000:
		return scaled(r, exponent, "kMBT")
	case a >= 1000:
		return group(strconv.FormatFloat(r, 'f', 0, 64))
	case v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(r, 'f', min(max(2-exponent, 0), 8), 64)
}

// Bytes prints a size: "512 B", "1.90 MB".
func Bytes(v float64) string {
	r, exponent := significant(v)
	switch {
	case math.IsNaN(r):
		return Unknown
	case math.Abs(r) < 1000:
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64) + " B"
	}
	return scaled(r, exponent, "kMGTP") + "B"
}

// significant rounds v to three significant figures and returns its decimal
// exponent. What is not finite becomes NaN.
func significant(v float64) (rounded float64, exponent int) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return math.NaN(), 0
	}
	text := strconv.FormatFloat(v, 'e', 2, 64)
	rounded, _ = strconv.ParseFloat(text, 64) // it was printed just now
	exponent, _ = strconv.Atoi(text[strings.IndexByte(text, 'e')+1:])
	return rounded, exponent
}

// scaled prints a rounded number with the SI step it needs, at most the last.
func scaled(r float64, exponent int, steps string) string {
	step := min(exponent/3, len(steps))
	decimals := max(2-(exponent-3*step), 0)
	digits := strconv.FormatFloat(r/math.Pow(1000, float64(step)), 'f', decimals, 64)
	return group(digits) + " " + steps[step-1:step]
}

// Count prints a whole number in full: "8,812".
func Count(n uint64) string { return group(strconv.FormatUint(n, 10)) }

// group puts commas between thousands of a number without decimals.
func group(digits string) string {
	if strings.IndexByte(digits, '.') >= 0 {
		return digits
	}
	sign := ""
	if rest, ok := strings.CutPrefix(digits, "-"); ok {
		sign, digits = "-", rest
	}
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, parts...), ",")
}

// Duration prints seconds in at most two units: "310 ms", "4.2 s", "40 s",
// "2 m 10 s", "3 h 12 m", "4 d 2 h".
func Duration(seconds float64) string {
	if math.IsNaN(seconds) || math.IsInf(seconds, 0) || seconds < 0 || seconds > 1e12 {
		return Unknown
	}
	if ms := math.Floor(seconds*1000 + 0.5); ms < 1000 {
		if ms == 0 {
			return "0 s"
		}
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	if tenths := math.Floor(seconds*10 + 0.5); tenths < 100 {
		return strconv.FormatFloat(tenths/10, 'f', 1, 64) + " s"
	}
	s := int64(math.Floor(seconds + 0.5))
	switch {
	case s < 60:
		return units(s, "s", 0, "")
	case s < 3600:
		return units(s/60, "m", s%60, "s")
	case s < 86400:
		return units(s/3600, "h", s%3600/60, "m")
	}
	return units(s/86400, "d", s%86400/3600, "h")
}

func units(large int64, name string, small int64, smallName string) string {
	text := group(strconv.FormatInt(large, 10)) + " " + name
	if smallName != "" {
		text += " " + strconv.FormatInt(small, 10) + " " + smallName
	}
	return text
}

// Percent prints a share in whole percent. Only a whole one is 100 %, and only
// nothing is 0 %.
func Percent(share float64) string {
	switch percent := math.Floor(share*100 + 0.5); {
	case math.IsNaN(share) || math.IsInf(share, 0):
		return Unknown
	case share > 0 && percent < 1:
		return "<1 %"
	case share < 1 && percent >= 100:
		return "99 %"
	default:
		return strconv.FormatFloat(percent, 'f', 0, 64) + " %"
	}
}

// Loss prints nats a token.
func Loss(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Unknown
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// known prints a figure that may be missing.
func known(v *float64, format func(float64) string) string {
	if v == nil {
		return Unknown
	}
	return format(*v)
}
