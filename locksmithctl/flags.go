package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
)

// settingFlag collects the flags of one setting, for package config to check.
type settingFlag struct {
	app        *app
	definition config.Definition
}

func (f *settingFlag) Set(value string) error {
	if f.definition.Secret && value != "" {
		f.app.note("warning: -%s: every user of this host can see it with ps: use -%[1]s-file", f.definition.Name)
	}
	f.app.flags = append(f.app.flags, config.Flag{Name: f.definition.Name, Value: value})
	return nil
}

func (f *settingFlag) String() string { return "" }

// Type is shown in usage texts.
func (f *settingFlag) Type() string {
	if f.definition.Switch {
		return "bool"
	}
	return "VALUE"
}

func flagUsage(d config.Definition) string {
	text := d.Description + " (" + d.CLIVariable()
	if d.Default != "" && !d.Switch {
		text += ", default " + d.Default
	}
	return text + ")"
}

// timeFlag is a length of time, 0 while the flag is not given.
type timeFlag time.Duration

func (f *timeFlag) Set(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second || d > 365*24*time.Hour {
		return errors.New("write a length of time from 1s to 8760h, such as 90m or 2h")
	}
	*f = timeFlag(d)
	return nil
}

func (f *timeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return time.Duration(*f).String()
}

func (f *timeFlag) Type() string { return "TIME" }

const timeoutUsage = "fail after `TIME`, such as 10m"

func (f *timeFlag) register(cmd *cobra.Command, name, usage string) {
	cmd.Flags().Var(f, name, usage)
	freeText(cmd, name)
}

// freeText tells the shell not to complete file names after a flag.
func freeText(cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
}
