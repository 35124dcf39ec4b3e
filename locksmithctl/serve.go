package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/listen"
	"github.com/locksmithd/locksmith/internal/metrics"
	"github.com/locksmithd/locksmith/internal/page"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
)

const (
	// minConnections is the least that leaves room for other requests than those that wait.
	minConnections = 8
	// 1/streamsPart of the connections may be pages that update themselves.
	streamsPart = 16
	// stopTime is how long requests that are under way may take when the server stops.
	stopTime = 10 * time.Second
)

// serveFlags are the flags of serve.
type serveFlags struct {
	listen      string
	listenSet   bool
	hold        time.Duration
	connections int
	tls         listen.Files
	insecure    bool
}

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [-listen ADDRESS] [-hold TIME] [-tls-cert FILE -tls-key FILE [-tls-client-ca FILE]]",
		Short: "Serve the lock to hosts that speak FleetLock",
		Long: `serve gives slots of the lock to hosts that ask for them by the FleetLock protocol, as
Zincati of Fedora CoreOS does. They wait in the same queue as the hosts that run
locksmithd, and pause, set-max, status and unlock count for them as well.

Each file GROUP.conf in /etc/locksmith/groups.d is a group that is served, default.conf
the group without a name. It may set LOCKSMITHD_REBOOT_WINDOW_START, _LENGTH and
_TIMEZONE, LOCKSMITHD_BLACKOUT, LOCKSMITHD_MAX and LOCKSMITHD_LOCK_TTL, which do not come
from this host's own settings. GROUP.users beside it has the users who may use the group,
as "htpasswd -B" writes them. Without that folder, the group of this host is served, with
its settings. The folder and the files of TLS are read again when they change.

Only programs on this host can connect by default. Another address needs TLS, with
-tls-client-ca or with users for each group, unless -insecure allows anybody who reaches
the server to take every slot.

A request for a slot is held open until its slot is free, for 50 s at most, so that the
next host reboots at once. Where no proxy ends long requests, a longer -hold, up to 25m,
makes that so for all hosts.

At the same address, browsers get a page that shows the fleet, programs get the same as JSON
(/api/v1/openapi.json describes it), and Prometheus gets /metrics. They show the groups that
are served, each to its users.

It also answers /-/healthy and, if etcd lets it read whether all groups are paused,
/-/ready. The unit locksmith-serve.service runs it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.listenSet = cmd.Flags().Changed("listen")
			if err := f.check(); err != nil {
				return usageError{err}
			}
			return a.serve(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:3333", "`ADDRESS` and port to listen on; an empty address stands for all")
	flags.DurationVar(&f.hold, "hold", 50*time.Second, "`TIME` for which a request for a slot is held open at most")
	flags.IntVar(&f.connections, "connections", 4096, "`NUMBER` of connections that are open at most; a quarter of it from one address, and as many requests a minute")
	flags.StringVar(&f.tls.Cert, "tls-cert", "", "`FILE` with the certificate of the server")
	flags.StringVar(&f.tls.Key, "tls-key", "", "`FILE` with its key")
	flags.StringVar(&f.tls.ClientCA, "tls-client-ca", "", "`FILE` with certificate authorities; each client needs a certificate from one of them")
	flags.BoolVar(&f.insecure, "insecure", false, "let other hosts connect although there is no TLS, client certificate or password")
	for _, name := range []string{"listen", "hold", "connections"} {
		freeText(cmd, name)
	}
	return cmd
}

// check checks the flags alone.
func (f serveFlags) check() error {
	switch _, _, err := net.SplitHostPort(f.listen); {
	case err != nil:
		return fmt.Errorf("-listen is %q: write an address and a port, such as 127.0.0.1:3333, or :3333 for all addresses", f.listen)
	case f.hold < time.Second || f.hold > grant.MaxHold:
		return fmt.Errorf("-hold is %v: write a length of time from 1s to 25m, such as 50s", f.hold)
	case f.connections < minConnections:
		return fmt.Errorf("-connections is %d: write %d or more", f.connections, minConnections)
	case f.tls.Cert == "" && f.tls.Key != "":
		return errors.New("-tls-key is set without -tls-cert: set both or neither")
	case f.tls.Cert != "" && f.tls.Key == "":
		return errors.New("-tls-cert is set without -tls-key: set both or neither")
	case f.tls.ClientCA != "" && f.tls.Cert == "":
		return errors.New("-tls-client-ca is set without -tls-cert: clients show certificates only to a server that has one")
	}
	return nil
}

// allowed says why groups may not be served on the listeners.
func (f serveFlags) allowed(listeners []net.Listener, groups map[string]grant.Group) error {
	for _, l := range listeners {
		if f.insecure || listen.Local(l.Addr()) {
			continue
		}
		if f.tls.Cert == "" {
			return fmt.Errorf("other hosts can connect to %s, and there is no TLS: set -tls-cert and -tls-key, or -insecure if the network is safe", l.Addr())
		}
		if f.tls.ClientCA != "" {
			continue
		}
		for name, g := range groups {
			if g.Users == nil {
				return fmt.Errorf("other hosts can connect to %s, and whoever does could take every slot of group %s: write %s/%[2]s.users, or set -tls-client-ca, or -insecure if the network is safe",
					l.Addr(), name, config.GroupsDir)
			}
		}
	}
	return nil
}

// serve serves until ctx ends.
func (a *app) serve(ctx context.Context, f serveFlags) error {
	hangup := a.catchHangup()
	groups, cfg, err := a.servedGroups()
	if err != nil {
		return err
	}
	stderr := journal.New(a.stderr, "locksmithctl", a.environ)
	stderr.Below(a.root)
	defer stderr.Flush()
	log := stderr.Logger(journal.Options{Level: slog.LevelInfo, Zone: cfg.Zone.Location})
	groups.log = log
	listeners, err := f.open(ctx)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		defer l.Close()
	}
	groups.allowed = func(groups map[string]grant.Group) error { return f.allowed(listeners, groups) }
	if err := groups.allowed(groups.groups.Content()); err != nil {
		return err
	}
	var encrypted *listen.TLS
	scheme := "http"
	if f.tls.Cert != "" {
		scheme = "https"
		if encrypted, err = listen.NewTLS(f.tls, log); err != nil {
			return err
		}
	}

	store := etcd.New(cfg.Etcd)
	defer store.Close() // the process ends, and with it the connection
	changed := make(chan struct{}, 1)
	counters := metrics.NewCounters(groups.current)
	cache := fleet.NewCache(store, groups.sources, max(minConnections/2, f.connections/streamsPart))
	defer cache.Stop()
	limit := listen.NewLimit(f.connections)
	var telling sync.WaitGroup // each for a bounded time
	defer telling.Wait()
	grants := grant.New(grant.Options{
		Store:  store,
		Groups: groups.current,
		Hold:   f.hold,
		Waits:  f.connections / 4 * 3, // room for the others
		Log:    log,
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
		HandedOver: counters.HandedOver,
		Expired: func(group string, slot lock.HolderInfo) {
			telling.Go(func() { a.tell(context.WithoutCancel(ctx), slotExpired(group, slot, "locksmithctl serve")) })
		},
	})
	ready := readiness{store: store, log: log}
	server := fleetlock.NewHTTPServer(listen.NewHandler(listen.Handler{
		FleetLock: metrics.New(metrics.Options{
			Counters: counters, Fleet: cache, Check: groups.check, Version: version, Waiting: grants.Waiting, Limit: limit, Log: log,
			Next: page.New(page.Options{
				Fleet: cache, Groups: groups.current, Check: groups.check, Plan: page.Foresee(windowOf, cfg.Zone.Location), Zone: cfg.Zone.Location, Log: log,
				Next: &fleetlock.Handler{
					Server:   grants,
					Log:      func(err error) { log.Error("a request has failed", "error", err) },
					Answered: counters.Answered,
				},
			}),
		}),
		ClientCertificates: f.tls.ClientCA != "",
		Rate:               f.connections / 4,
		Ready:              ready.check,
		Refused:            counters.Refused,
	}))
	// Whoever asks again comes back in minutes.
	server.IdleTimeout = 10 * time.Second
	server.ErrorLog = listen.ErrorLog(log)
	// With HTTP/2 one connection could have hundreds of requests.
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	if encrypted != nil {
		server.TLSConfig = encrypted.Config()
	}

	ended := make(chan error, len(listeners))
	var at []string
	for _, l := range listeners {
		at = append(at, scheme+"://"+l.Addr().String())
		go func() {
			if encrypted != nil {
				ended <- server.ServeTLS(limit.Listener(l), "", "")
			} else {
				ended <- server.Serve(limit.Listener(l))
			}
		}()
	}
	where := strings.Join(at, ", ")
	log.Info("serves the lock", "at", where, "groups", groups.names())
	warn := func(err error) {
		if err != nil {
			log.Warn(err.Error())
		}
	}
	warn(systemd.NotifyReady())
	told := ""
	status := func() {
		if now := fmt.Sprintf("serves %s at %s; %s", count(groups.number(), "group"), where, waiting(grants.Waiting())); now != told {
			told = now
			warn(systemd.NotifyStatus(now))
		}
	}
	status()
	for again := (<-chan time.Time)(nil); ; {
		select {
		case <-changed:
			if again == nil { // at most once a second
				again = time.After(time.Second)
			}
			continue
		case <-again:
			again = nil
			if groups.current(); grants.Waiting() > 0 { // requests that wait follow the files as well
				again = time.After(time.Second)
			}
		case <-groups.changed:
			grants.Reload()
			cache.Refresh()
		case <-hangup:
			groups.reload()
			if encrypted != nil {
				encrypted.Reload()
			}
		case err := <-ended:
			return fmt.Errorf("accept connections: %w", err)
		case <-ctx.Done():
			warn(systemd.NotifyStopping())
			log.Info("stops")
			ready.stopped.Store(true)
			grants.Stop()
			cache.Stop()
			limited, cancel := context.WithTimeout(context.Background(), stopTime)
			defer cancel()
			if err := server.Shutdown(limited); err != nil {
				_ = server.Close()
			}
			return nil
		}
		status()
	}
}

func waiting(n int) string {
	if n == 1 {
		return "1 host waits"
	}
	return fmt.Sprintf("%d hosts wait", n)
}

// open returns the sockets that systemd passes, or else one of its own.
func (f serveFlags) open(ctx context.Context) ([]net.Listener, error) {
	listeners, err := systemd.Sockets()
	switch {
	case err != nil:
		return nil, err
	case len(listeners) > 0 && f.listenSet:
		return nil, errors.New("-listen has no effect, because systemd passes the socket: set ListenStream= in a drop-in of locksmith-serve.socket instead, or disable that")
	case len(listeners) > 0:
		return listeners, nil
	}
	l, err := listen.Open(ctx, f.listen)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// catchHangup returns SIGHUP where systemd runs this process, which asks by it to read the files again. In a terminal
// it ends the command, as it ends all others.
func (a *app) catchHangup() <-chan os.Signal {
	hangup := make(chan os.Signal, 1)
	if a.getenv("NOTIFY_SOCKET") != "" {
		signal.Reset(syscall.SIGHUP)
		signal.Notify(hangup, syscall.SIGHUP)
	}
	return hangup
}

// readiness is whether the server can serve.
type readiness struct {
	store   lock.Store
	log     *slog.Logger
	stopped atomic.Bool
	failed  bool
}

// readyKey is the key that is asked for: one that whoever may use the lock of any group may read.
const readyKey = lock.Root + "/pause-all"

// check asks etcd. It is for one caller at a time.
func (r *readiness) check(ctx context.Context) error {
	if r.stopped.Load() {
		return errors.New("the server stops")
	}
	_, err := r.store.Get(ctx, lock.Read{Key: readyKey, KeysOnly: true})
	if failed := err != nil; failed != r.failed {
		r.failed = failed
		if failed {
			r.log.Warn("the server is not ready", "error", err)
		} else {
			r.log.Info("the server is ready")
		}
	}
	return err
}
