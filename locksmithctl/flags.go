package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// A length of time that a flag takes is at least, and at most, this.
const (
	shortest = time.Second
	longest  = 365 * 24 * time.Hour
)

// timeFlag is a length of time, 0 while the flag is not given.
type timeFlag time.Duration

func (f *timeFlag) Set(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < shortest || d > longest {
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

// freeText has the shell complete no file names after a flag.
func freeText(cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
}
