// Package airlock reads the semaphores of airlock, a FleetLock server for Fedora CoreOS, from etcd. It never writes
// there.
package airlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

const (
	// folder has a key for each group, whose name is query-escaped in it, and nothing else.
	folder = "com.coreos.airlock/groups/"
	suffix = "/v1/semaphore"

	// maxDocument is longer than the document of a group with ten thousand holders, in bytes.
	maxDocument = 1 << 20
)

// Group is a group of hosts with slots of their own.
type Group struct {
	Name    string   // airlock's default group is called "default", unless its configuration says otherwise
	Slots   int      // how many hosts may hold a slot
	Holders []string // the ids of the hosts that hold one, each once
}

// Read returns the groups in a store, by name. An error names the key that cannot be understood.
func Read(ctx context.Context, store lock.Store) ([]Group, error) {
	// "0" comes right after "/".
	snap, err := store.Get(ctx, lock.Read{Key: folder, End: strings.TrimSuffix(folder, "/") + "0"})
	if err != nil {
		return nil, fmt.Errorf("read airlock's keys: %w", err)
	}
	var groups []Group
	for _, key := range slices.Sorted(maps.Keys(snap.Values)) {
		g, err := parse(key, snap.Values[key].Data)
		if err != nil {
			return nil, fmt.Errorf("airlock's key %s: %w", safetext.Clean(key), err)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

func parse(key string, data []byte) (Group, error) {
	escaped, ok := strings.CutSuffix(strings.TrimPrefix(key, folder), suffix)
	name, err := url.QueryUnescape(escaped)
	if !ok || err != nil || name == "" || strings.Contains(escaped, "/") {
		return Group{}, fmt.Errorf("it is not %sGROUP%s", folder, suffix)
	}
	var document struct {
		Slots   *int     `json:"total_slots"`
		Holders []string `json:"holders"`
	}
	switch {
	case len(data) > maxDocument:
		return Group{}, fmt.Errorf("its value is longer than %d bytes", maxDocument)
	case json.Unmarshal(data, &document) != nil || document.Slots == nil || *document.Slots < 0:
		return Group{}, errors.New(`its value is not like {"total_slots":1,"holders":["..."]}`)
	}
	slices.Sort(document.Holders)
	return Group{name, *document.Slots, slices.Compact(document.Holders)}, nil
}
