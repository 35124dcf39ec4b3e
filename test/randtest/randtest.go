// Package randtest seeds random tests so that a failed run can be repeated.
package randtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// variable sets the seed, to repeat a run.
const variable = "LOCKSMITH_SEED"

// Seed returns the seed for a test, $LOCKSMITH_SEED or a random one, and logs it.
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
