package main

import (
	"slices"
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	flags := longFlags((&app{}).rootCommand())
	for _, test := range []struct{ name, args, want string }{
		{"nothing", "", ""},
		{"one dash", "-endpoint=a status", "--endpoint=a status"},
		{"one dash and a value", "-endpoint a status", "--endpoint a status"},
		{"two dashes", "--endpoint=a --group b status", "--endpoint=a --group b status"},
		{"after the command", "status -group a -debug", "status --group a --debug"},
		{"a value that looks like a flag", "-group -debug -group=-debug status", "--group -debug --group=-debug status"},
		{"a value that is two dashes", "-group -- status -debug", "--group -- status --debug"},
		{"a value that is missing", "status -group", "status --group"},
		{"a switch takes no value", "-debug -group a", "--debug --group a"},
		{"shorthands", "-h -o json -ojson -o=json", "-h -o json -ojson -o=json"},
		{"the value of a shorthand", "-o -debug -debug", "-o -debug --debug"},
		{"long flags with the letter of a shorthand", "-output json -help", "--output json --help"},
		{"what follows two dashes", "lock -debug -- -group -3", "lock --debug -- -group -3"},
		{"a dash", "lock - -debug", "lock - --debug"},
		{"an unknown flag", "-frobnicate=1 -x", "--frobnicate=1 -x"},
		{"flags of one command", "pause -for -1h -reason -all-groups -all-groups", "pause --for -1h --reason -all-groups --all-groups"},
		{"with the letter of a shorthand", "unlock -older-than 2h -yes", "unlock --older-than 2h --yes"},
		{"switches of one command", "lock -wait -timeout 1m a", "lock --wait --timeout 1m a"},
		{"a number below zero", "set-max -3 -debug", "set-max --debug -- -3"},
		{"numbers below zero elsewhere", "-3 lock -30 -group -3", "-3 lock --30 --group -3"},
		{"the word that is being typed", "__complete -debug status -gro", "__complete --debug status --gro"},
		{"a shorthand that is being typed", "__complete status -o", "__complete status -o"},
		{"a dash that is being typed", "__complete status -", "__complete status -"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, want := normalize(strings.Fields(test.args), flags), strings.Fields(test.want)
			if !slices.Equal(got, want) {
				t.Errorf("normalize(%q) = %q, want %q", test.args, got, want)
			}
			if got == nil {
				t.Error("normalize returns nil, for which cobra takes the arguments of this process")
			}
		})
	}
}
