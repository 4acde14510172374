package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"dunlin/compute/cpu"
	"dunlin/folder"
	"dunlin/machine"
	"dunlin/status"
	"dunlin/swarm"
)

// Processor opens the device as join does, and the looks that limits go by.
func Processor() []status.Finding {
	processor := status.Finding{Name: "processor", State: status.OK}
	device, err := cpu.New(cpu.Options{})
	if err != nil {
		processor.State, processor.Detail, processor.Mend = status.Fail, err.Error(), "report it with the output of dunlin doctor --json"
	} else {
		processor.Detail = fmt.Sprintf("%s, %d cores", device.Name(), machine.Cores())
		if device.Path() == "portable" {
			processor.State, processor.Mend = status.Warn, "nothing mends it: training takes several times as long as with AVX2 or NEON"
		}
		_ = device.Close() // it did nothing
	}
	load := status.Finding{Name: "load", State: status.OK}
	var w machine.Watcher
	_, err = w.Look()
	var seen machine.Load
	if err == nil {
		<-time.After(300 * time.Millisecond)
		seen, err = w.Look()
	}
	load.Detail = fmt.Sprintf("other programs use %.1f of %d cores", seen.Others, machine.Cores())
	switch {
	case err != nil:
		load.State, load.Detail, load.Mend = status.Warn, err.Error(), "use --schedule: --pause-when-busy and --pause-on-battery may not see what they go by"
	case seen.Battery:
		load.State, load.Detail, load.Mend = status.Warn, load.Detail+"; it runs on battery", "plug it in, or join with --pause-on-battery=false"
	}
	return []status.Finding{processor, load}
}

// Memory looks whether a worker has room.
func Memory() status.Finding {
	total, free, err := machine.Memory()
	return judgeMemory(total, free, err)
}

// Memory below leastMemory does not hold the smallest preset and its peer; littleMemory holds nano.
const (
	leastMemory  = 150 << 20
	littleMemory = 1 << 30
)

func judgeMemory(total, free uint64, err error) status.Finding {
	f := status.Finding{Name: "memory", State: status.OK, Detail: fmt.Sprintf("%s free of %s", status.Bytes(float64(free)), status.Bytes(float64(total)))}
	switch {
	case err != nil:
		f.State, f.Detail, f.Mend = status.Warn, err.Error(), "look yourself whether a gigabyte is free"
	case free < leastMemory:
		f.State, f.Mend = status.Fail, "close other programs until "+status.Bytes(leastMemory)+" are free"
	case free < littleMemory:
		f.State, f.Mend = status.Warn, "close other programs, or join with --memory "+strconv.FormatUint(free*8/10>>20, 10)+"MiB"
	}
	return f
}

// Disk looks at the disk that a folder is on, or will be; quota is what a worker keeps there, in bytes.
func Disk(dir string, quota int64) status.Finding {
	at := dir
	for ; at != filepath.Dir(at); at = filepath.Dir(at) { // what exists of it
		if _, err := os.Stat(at); err == nil {
			break
		}
	}
	_, free, err := machine.Disk(at)
	return judgeDisk(dir, free, uint64(quota), err)
}

// leastDisk is what a worker of a small run takes at least.
const leastDisk = 500e6

func judgeDisk(dir string, free, quota uint64, err error) status.Finding {
	f := status.Finding{Name: "disk", State: status.OK, Detail: fmt.Sprintf("%s free for %s", status.Bytes(float64(free)), dir)}
	switch {
	case err != nil:
		f.State, f.Detail, f.Mend = status.Warn, err.Error(), "look yourself whether the disk has room"
	case free < leastDisk:
		f.State, f.Mend = status.Fail, "delete files until "+status.Bytes(leastDisk)+" are free, or choose another disk with --data-dir"
	case free < quota:
		f.State = status.Warn
		f.Mend = fmt.Sprintf("join with --disk %.1f, so that it lets old bytes go before the disk is full (it may keep %s now)", float64(free)*0.8/1e9, status.Bytes(float64(quota)))
	}
	return f
}

// Folder checks a data folder without changing what is in it; verify checks the ledger there.
func Folder(dir string, verify func(dir string) error) []status.Finding {
	f := status.Finding{Name: "data folder", State: status.OK, Detail: dir}
	fail := func(detail, mend string) []status.Finding {
		f.State, f.Detail, f.Mend = status.Fail, detail, mend
		return []status.Finding{f}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Detail += " is not there yet: the first join makes it"
		return []status.Finding{f}
	case err != nil:
		return fail(err.Error(), "choose another folder with --data-dir")
	case !info.IsDir():
		return fail(dir+" is a file", "choose another folder with --data-dir")
	}
	probe, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return fail(err.Error(), "sudo chown -R "+strconv.Itoa(os.Getuid())+" "+dir)
	}
	_, errWrite := probe.Write(make([]byte, 4096))
	if err := errors.Join(errWrite, probe.Sync(), probe.Close(), os.Remove(probe.Name())); err != nil {
		return fail("a file in it cannot be written: "+err.Error(), "free room on its disk, or choose another folder with --data-dir")
	}
	home := folder.Folder{Dir: dir}
	if _, err := os.Stat(home.Identity()); err == nil {
		if _, err := swarm.LoadOrCreateKey(home.Identity()); err != nil {
			return fail(err.Error(), "chmod 600 "+home.Identity()+"; if it is damaged, delete it: this machine then joins as a new peer")
		}
	}
	run, err := home.Current()
	if errors.Is(err, folder.ErrNoRun) {
		f.Detail += ": no run yet"
		return []status.Finding{f}
	}
	if err == nil {
		_, _, err = home.Load(run)
	}
	if err != nil {
		return fail(err.Error(), "delete "+filepath.Join(dir, "current")+" and join again; what is whole stays")
	}
	f.Detail += ": run " + run.Short()
	if lock, err := swarm.LockFolder(dir); err != nil {
		f.Detail += ", in use by a dunlin that runs"
	} else if err := lock.Unlock(); err != nil {
		return fail(err.Error(), "choose another folder with --data-dir")
	} else if _, err := os.Stat(filepath.Join(home.Run(run), "ledger.db")); err != nil {
		f.Detail += ", of which nothing is here yet"
	} else if err := verify(dir); err != nil {
		return fail(err.Error(), "delete "+home.Run(run)+" and join again: the run sends this machine its state anew")
	} else {
		f.Detail += ", its ledger is whole"
	}
	return []status.Finding{f}
}
