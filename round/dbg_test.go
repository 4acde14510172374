package round
import "testing"
func TestDbg(t *testing.T){ simulate(t, 328, 3000) }
