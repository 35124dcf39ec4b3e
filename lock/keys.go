package lock

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
)

// Root is the folder of all keys, as hosts in the field know it.
const Root = "coreos.com/updateengine/rebootlock"

const pauseAllKey = Root + "/pause-all"

// ValidateGroup refuses names whose key would not be the group's own, and names that cannot be
// printed. "" is the default group.
func ValidateGroup(group string) error {
	// Clients that clean the key as if it were a path would use the key of another group.
	if escaped := url.QueryEscape(group); escaped == "." || escaped == ".." {
		return fmt.Errorf("group %q is not a name: its key would be that of another group", group)
	}
	if !printable(group) {
		return fmt.Errorf("group %q has characters that cannot be printed", group)
	}
	return nil
}

// Folder is what all keys of a group begin with, without the slash that follows; "" is the default group, whose folder
// also has those of all others. In fleet/ are the records that hosts write about themselves; the rest is the lock's
// own.
func Folder(group string) string {
	if group == "" {
		return Root
	}
	return Root + "/groups/" + url.QueryEscape(group)
}

func (l *Lock) semaphoreKey() string       { return l.prefix + "/semaphore" }
func (l *Lock) recordKey(id string) string { return l.prefix + "/holders/" + url.QueryEscape(id) }
func (l *Lock) aliveKey(id string) string  { return l.prefix + "/alive/" + url.QueryEscape(id) }
func (l *Lock) queueKey(id string) string  { return l.prefix + "/queue/" + url.QueryEscape(id) }
func (l *Lock) unwellKey(id string) string { return l.prefix + "/unwell/" + url.QueryEscape(id) }
func (l *Lock) pauseKey() string           { return l.prefix + "/pause" }
func (l *Lock) importedKey() string        { return l.prefix + "/imported" }

// orderKey is the key in the index of the queue of an entry that was created at a revision.
func (l *Lock) orderKey(id string, created int64) string {
	return fmt.Sprintf("%s/order/%016x/%s", l.prefix, math.MaxInt64-created, url.QueryEscape(id))
}

func (l *Lock) queueRange() Read   { return below(l.prefix + "/queue/") }
func (l *Lock) orderRange() Read   { return below(l.prefix + "/order/") }
func (l *Lock) holdersRange() Read { return below(l.prefix + "/holders/") }
func (l *Lock) unwellRange() Read  { return below(l.prefix + "/unwell/") }

func (l *Lock) aliveRange() Read {
	r := below(l.prefix + "/alive/")
	r.KeysOnly = true
	return r
}

// idOf returns the id that the last part of a key stands for.
func idOf(key string) string {
	last := key[strings.LastIndexByte(key, '/')+1:]
	if id, err := url.QueryUnescape(last); err == nil {
		return id
	}
	return last
}

// below is a Read of all keys that begin with prefix, which ends with a slash.
func below(prefix string) Read {
	return Read{Key: prefix, End: prefix[:len(prefix)-1] + "0"} // "0" comes right after "/"
}

// keys is a Read for each key.
func keys(keys ...string) []Read {
	var reads []Read
	for _, key := range keys {
		reads = append(reads, Read{Key: key})
	}
	return reads
}

// first is a Read of the first key of a range.
func first(r Read) Read {
	r.Limit, r.KeysOnly = 1, true
	return r
}

// keysIn returns the keys in a snapshot that are in a range, in order.
func keysIn(snap Snapshot, r Read) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(snap.Values)), func(key string) bool {
		return key < r.Key || key >= r.End
	})
}

// byCreation is keysIn in the order in which the keys were created.
func byCreation(snap Snapshot, r Read) []string {
	found := keysIn(snap, r)
	slices.SortStableFunc(found, func(a, b string) int {
		return cmp.Compare(snap.Values[a].CreateRevision, snap.Values[b].CreateRevision)
	})
	return found
}

// Everything returns watches of all keys of a group, those of its hosts in fleet/ included, and of the pause of all
// groups. "" is the default group.
func Everything(group string, after int64) []Watch {
	if group != "" {
		all := below(Folder(group) + "/")
		return []Watch{{Key: all.Key, End: all.End, After: after}, {Key: pauseAllKey, After: after}}
	}
	// Its folder has those of all other groups, too.
	all, groups := below(Root+"/"), below(Root+"/groups/")
	return []Watch{{Key: all.Key, End: groups.Key, After: after}, {Key: groups.End, End: all.End, After: after}}
}
