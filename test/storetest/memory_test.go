package storetest

import (
	"testing"

	"github.com/locksmithd/locksmith/lock"
)

func TestMemory(t *testing.T) {
	Contract(t, func(*testing.T) lock.Store { return NewMemory() })
}
