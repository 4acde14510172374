package status

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the margin that readers of QR codes need, in modules.
const quiet = 2

// QR returns a text as a QR code for a terminal, light on dark, two modules a
// character; "" when the text does not fit into one. Letters become capitals,
// which take less room: invites mean the same.
func QR(text string) string {
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return ""
	}
	light := func(x, y int) bool { return !code.Black(x, y) } // also outside
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			lower := light(x, y+1) && y+1 < code.Size+quiet
			switch {
			case light(x, y) && lower:
				b.WriteRune('█')
			case light(x, y):
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// qrSVG returns a text as a QR code in SVG.
func qrSVG(text string) ([]byte, error) {
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	size := code.Size + 2*2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, size, size, size, size)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+2*quiet, y+2*quiet)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return []byte(b.String()), nil
}
