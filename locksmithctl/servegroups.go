package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/htpasswd"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/zone"
)

// servedGroups are the groups that serve serves. They follow the files.
type servedGroups struct {
	dir, root string
	zone      *zone.Zone
	note      func(string)
	passwords *htpasswd.Checker
	log       *slog.Logger
	// allowed says why groups may not be served.
	allowed func(map[string]grant.Group) error
	// changed gets a value after the groups have changed.
	changed chan struct{}

	groups *readfile.Followed[map[string]grant.Group]
	// ofHost says that there is no folder of groups, so that the group of this host is served. Once groups is in use,
	// only readAgain uses it.
	ofHost bool
}

// servedGroups reads the groups, and the settings that they need.
func (a *app) servedGroups() (*servedGroups, *config.Config, error) {
	s := &servedGroups{
		dir:       filepath.Join(a.root, config.GroupsDir),
		root:      a.root,
		note:      func(text string) { a.note("warning: %s", text) },
		passwords: htpasswd.NewChecker(),
		changed:   make(chan struct{}, 1),
	}
	s.groups = readfile.Follow[map[string]grant.Group](s.dir)
	cfg, err := a.settings(config.PartEtcd)
	switch {
	case err != nil:
		return nil, cfg, err
	case cfg.FleetLock.Server.URL != "":
		return nil, cfg, notOffered(cfg)
	}
	s.zone = cfg.Zone
	groups, err := s.read(s.note)
	if err != nil {
		return nil, cfg, settingsError{err}
	}
	if groups != nil {
		s.groups.Use(groups)
		return s, cfg, nil
	}
	s.ofHost = true
	if cfg, err = a.settings(config.PartEtcd | config.PartLock | config.PartWindow); err != nil {
		return nil, cfg, err
	}
	served, err := cfg.Served()
	if err != nil {
		return nil, cfg, settingsError{err}
	}
	groups, err = s.convert(served)
	s.groups.Use(groups)
	return s, cfg, err
}

// read reads the folder, and notes what is dubious in it. It returns nil if there is none.
func (s *servedGroups) read(note func(string)) (map[string]grant.Group, error) {
	served, warnings, err := config.ServedGroups(s.root, s.zone, s.note)
	for _, w := range warnings {
		note(w)
	}
	if served == nil || err != nil {
		return nil, err
	}
	return s.convert(served)
}

func (s *servedGroups) convert(served map[string]config.ServedGroup) (map[string]grant.Group, error) {
	groups := map[string]grant.Group{}
	for name, g := range served {
		group := grant.Group{Lock: g.Lock, Max: g.Max, TTL: g.LockTTL}
		if g.Window != nil { // an interface with a nil pointer is not nil
			group.Window = g.Window
		}
		if g.Users != "" {
			users, err := s.passwords.Read(g.Users)
			if err != nil {
				return nil, err
			}
			group.Users = users
		}
		groups[name] = group
	}
	return groups, nil
}

// current returns the groups as the files had them a second ago.
func (s *servedGroups) current() map[string]grant.Group { return s.groups.Current(s.readAgain) }

// reload reads the folder again.
func (s *servedGroups) reload() { s.groups.Reload(s.readAgain) }

// readAgain implements [readfile.Reader].
func (s *servedGroups) readAgain(was map[string]grant.Group, news func(string) bool) (map[string]grant.Group, error) {
	groups, err := s.read(func(warning string) {
		if news(warning) {
			s.note(warning)
		}
	})
	switch {
	case err != nil:
	case groups == nil && s.ofHost:
		return was, nil
	case groups == nil:
		s.log.Error("the folder of groups is gone: the groups before stay in use, until a restart", "folder", s.dir)
		return was, nil
	default:
		err = errors.Join(s.opened(was, groups), s.allowed(groups))
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			if line = strings.TrimSpace(line); news(line) {
				s.log.Error("the groups were read again, and cannot be used: those before stay in use", "error", line)
			}
		}
		return nil, err
	}
	for name, g := range was {
		if now, served := groups[name]; served && reflect.DeepEqual(now, g) {
			groups[name] = g // requests that wait go on
		}
	}
	s.ofHost = false
	select {
	case s.changed <- struct{}{}:
	default:
	}
	s.log.Info("the groups were read again, and are in use", "groups", names(groups))
	return groups, nil
}

// opened returns an error for each group that had users, and would be for everybody: its file may be on its way, or lost.
func (s *servedGroups) opened(was, groups map[string]grant.Group) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if g, served := groups[name]; served && g.Users == nil && was[name].Users != nil {
			errs = append(errs, fmt.Errorf("%s is gone, without which everybody could use group %s: write it again, or restart the server to serve the group to everybody",
				filepath.Join(s.dir, name+".users"), name))
		}
	}
	return errors.Join(errs...)
}

func (s *servedGroups) names() string { return names(s.groups.Content()) }

func (s *servedGroups) number() int { return len(s.groups.Content()) }

func names(groups map[string]grant.Group) string {
	return strings.Join(slices.Sorted(maps.Keys(groups)), ", ")
}

// sources are the groups that are served, for whatever shows the fleet: the default group first.
func (s *servedGroups) sources() (all []fleet.Source) {
	for _, g := range s.current() {
		all = append(all, fleet.Source{Group: g.Lock, Max: g.Max})
	}
	slices.SortFunc(all, func(a, b fleet.Source) int { return cmp.Compare(a.Group, b.Group) })
	return all
}

// check reports for which groups a password is that of a user.
func (s *servedGroups) check(ctx context.Context, address, user, password string, of []grant.Users) ([]bool, error) {
	var files []*htpasswd.Users
	for _, u := range of {
		files = append(files, u.(*htpasswd.Users)) // see convert
	}
	return s.passwords.CheckEach(ctx, address, user, password, files)
}
