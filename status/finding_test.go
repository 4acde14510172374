package status

import "testing"

func TestFindingsNameTheMend(t *testing.T) {
	found := []Finding{
		{Name: "clock", State: OK, Detail: "60 ms off by time.example"},
		{Name: "data folder", State: Warn, Detail: "3.10 GB free on the file system of /home/a", Mend: "free 7 GB, or name another folder: --data-dir DIR"},
		{Name: "gpu", State: Fail, Detail: "driver 470 is older\x1b[2J than 525", Mend: "sudo apt install nvidia-driver-550"},
	}
	want := `ok    clock        60 ms off by time.example
warn  data folder  3.10 GB free on the file…
                   → free 7 GB, or name another folder: --data-dir DIR
fail  gpu          driver 470 is older[2J t…
                   → sudo apt install nvidia-driver-550

1 ok, 1 to look at, 1 to mend
`
	if got := Findings(found, 44); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for n, worst := range map[int]Verdict{0: OK, 1: OK, 2: Warn, 3: Fail} {
		if got := Worst(found[:n]); got != worst {
			t.Errorf("worst of the first %d is %s, want %s", n, got, worst)
		}
	}
}
