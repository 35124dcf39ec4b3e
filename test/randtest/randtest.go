// Package randtest seeds random tests, so that one that failed can be repeated.
package randtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// variable repeats a run.
const variable = "LOCKSMITH_SEED"

// Seed returns the seed for a test: $LOCKSMITH_SEED, or else one of its own. It
// is in the test's log.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s, ok := os.LookupEnv(variable); ok {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
	}
	t.Logf("to repeat: %s=%d", variable, seed)
	return seed
}
