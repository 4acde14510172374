package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"dunlin/cmd/dunlin/doctor"
	"dunlin/invite"
	"dunlin/machine"
	"dunlin/status"
)

func newDoctor(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("doctor [INVITE]", "look for what is wrong with this machine or its network, and say how to mend it",
		"  dunlin doctor\n  dunlin doctor dunlin1:…\n  dunlin doctor --port 4001 --data-dir /mnt/big/dunlin --json\n  dunlin doctor --gpu",
		optionally("the invite"), t.doctor,
		text(&c.DataDir, "data-dir", "", "path", "folder of keys and state; without it, the worker's below the XDG data folder"),
		whole(&c.Port, "port", 0, 0, 65534, "port of the swarm, as for join; 0 takes free ones"),
		yes(&c.Loopback, "loopback", "for a run on this machine only: nothing outside of it is looked at"),
		c.page(), c.disk(),
		on(&c.NAT, "nat", "ask the router for a port"),
		yes(&c.GPU, "gpu", "check the GPUs instead: driver, cards, every kernel against the CPU's reference, and their speed"),
		c.computer(deviceAllCards))
}

// doctor prints findings; one that fails makes the exit code 1.
func (t *terminal) doctor(ctx context.Context, c *Config, args []string) error {
	if c.GPU {
		return t.doctorGPU(ctx, c)
	}
	var token *invite.Token
	if len(args) == 1 {
		var err error
		if token, err = invite.Parse(args[0]); err != nil {
			return err
		}
	}
	line := t.progress(c)
	defer line.close()
	dir := c.workerFolder()
	var findings []status.Finding
	type look struct {
		at   string
		find func() []status.Finding
	}
	looks := []look{
		{"the processor", doctor.Processor},
		{"memory and disk", func() []status.Finding { return []status.Finding{doctor.Memory(), doctor.Disk(dir, c.quota())} }},
		{"the data folder", func() []status.Finding { return doctor.Folder(dir, verifyLedger) }},
		{"ports", func() []status.Finding { return doctor.Ports(c.Port, c.Listen) }},
		{"the way to the coordinator", func() []status.Finding { return c.lookCoordinator(ctx, token) }},
	}
	if !c.Loopback {
		looks = append(looks, look{"the clock", func() []status.Finding { return []status.Finding{doctor.Clock(ctx, machine.TimeServers())} }},
			look{"the router", func() []status.Finding {
				answered := slices.ContainsFunc(findings, func(f status.Finding) bool { return f.Name == "coordinator" && f.State == status.OK })
				return doctor.Router(ctx, c.NAT, c.Port, answered)
			}})
	}
	for _, look := range looks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if line.live && !c.JSON {
			line.step("looking at " + look.at + " …")
		}
		findings = append(findings, look.find()...)
	}
	if line.live && !c.JSON {
		line.step("")
	}
	if err := t.report(c, findings); err != nil {
		return err
	}
	if status.Worst(findings) == status.Fail {
		return errors.New("this machine cannot take part as it stands: see what fails above, and its mend")
	}
	return nil
}

// report prints findings for people or programs.
func (t *terminal) report(c *Config, findings []status.Finding) error {
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"findings": findings, "state": status.Worst(findings), "version": release, "system": runtime.GOOS + "/" + runtime.GOARCH})
	}
	_, err := fmt.Fprint(t.out, status.Findings(findings, t.width()))
	return err
}

// workerFolder is where join keeps its state.
func (c *Config) workerFolder() string {
	if c.DataDir != "" {
		return c.DataDir
	}
	return filepath.Join(dataHome(), "worker")
}
