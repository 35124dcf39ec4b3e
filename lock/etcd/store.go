// Package etcd is the [lock.Store] of hosts: etcd, reached by its v3 API, with TLS and users. It knows
// nothing of the lock but the interface, and the folder of keys that its user needs permission for.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/lock"
)

const (
	// attemptTimeout is how long one request may take before other endpoints get their chance.
	attemptTimeout = 2 * time.Second
	// attempts is how often Get and Wait try. That takes two seconds where connections are refused, and
	// ten where endpoints are silent.
	attempts = 4
	// bufferSize is the size of a connection's buffers, in bytes.
	bufferSize = 4 << 10

	// commitTimeout bounds a transaction, which is tried once.
	commitTimeout = 3 * time.Second

	// connectTimeout bounds one attempt to connect. It is longer than any request, whose own
	// timeout makes the better message.
	connectTimeout = 5 * time.Second

	// A connection that has been silent for keepaliveTime (the least that gRPC allows) while a
	// watch is open is probed, and given up after keepaliveTimeout more.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// Store is a [lock.Store] in etcd, 3.4 or newer. It connects at its first use, to all endpoints at once, and
// uses those that answer. After a failure it connects again, each time without another one of the
// endpoints: so it leaves a member that answers but cannot serve, such as one
// that is cut off from the others. It is safe for concurrent use.
//
// No call outlasts its context. Apart from that, Get takes at most 11 s, or 19 s where it also has to
// log in each time; Commit takes 3 s, or 5 s. A Wait notices within 13 s that the member it watches went
// silent, and goes on with another one.
type Store struct {
	config Config

	mu       sync.Mutex
	client   *clientv3.Client // nil while not connected
	failures int              // since the last Close
	worked   bool             // the files could be used at least once since the last Close
}

var _ lock.Store = (*Store)(nil)

// New returns a store that is not connected yet. The configuration is checked, and its files are
// read, whenever it connects. Files that cannot be used are refused. If they could be used since the
// last Close they are probably being renewed, and that is a failure like any other, to be retried.
func New(c Config) *Store {
	return &Store{config: c}
}

// Close drops the connection, if there is one. The next call connects again, and so may calls that are
// under way.
func (e *Store) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures, e.worked = 0, false
	client := e.client
	e.client = nil
	if client == nil {
		return nil
	}
	if err := client.Close(); err != nil {
		return fmt.Errorf("close connection to etcd: %w", err)
	}
	return nil
}

// Get implements [lock.Store].
func (e *Store) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	var snap lock.Snapshot
	err := e.retry(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		resp, err := client.Txn(ctx).Then(gets(reads)...).Commit()
		if err != nil {
			return err
		}
		snap = snapshot(resp)
		return nil
	})
	if err != nil {
		return lock.Snapshot{}, fmt.Errorf("read %s: %w", brief(reads, func(r lock.Read) string { return r.Key }), err)
	}
	return snap, nil
}

// Commit implements [lock.Store].
func (e *Store) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (ok bool, now lock.Snapshot, err error) {
	var ifs []clientv3.Cmp
	var otherwise []lock.Read
	for _, c := range conds {
		if c.End != "" {
			// For a range without keys, etcd compares with a key that does not exist.
			ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(c.Key).WithRange(c.End), "=", 0))
			continue
		}
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRevision))
		otherwise = append(otherwise, lock.Read{Key: c.Key})
	}
	var thens []clientv3.Op
	for _, op := range ops {
		if op.Delete {
			thens = append(thens, clientv3.OpDelete(op.Key))
		} else {
			thens = append(thens, clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		}
	}
	err = e.once(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		resp, err := client.Txn(ctx).If(ifs...).Then(append(thens, gets(reads)...)...).
			Else(append(gets(otherwise), gets(reads)...)...).Commit()
		if err != nil {
			return err
		}
		ok, now = resp.Succeeded, snapshot(resp)
		return nil
	})
	if err != nil {
		return false, lock.Snapshot{}, fmt.Errorf("write %s: %w", brief(conds, func(c lock.Cond) string { return c.Key }), err)
	}
	return ok, now, nil
}

// Wait implements [lock.Store].
func (e *Store) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	var snap lock.Snapshot
	again := false
	err := e.retry(ctx, func(client *clientv3.Client) (err error) {
		if again {
			// All keys have to be read: if etcd was restored from a backup meanwhile, it gives out its revisions
			// a second time, and a watch that continued from its old revision would miss changes.
			_, err = revision(ctx, client, watches[0].Key)
			return err
		}
		again = true
		snap, err = watch(ctx, client, watches)
		return err
	})
	if errors.Is(err, rpctypes.ErrCompacted) {
		return lock.Snapshot{}, nil
	}
	if err != nil {
		return lock.Snapshot{}, fmt.Errorf("watch %s: %w", brief(watches, func(w lock.Watch) string { return w.Key }), err)
	}
	return snap, nil
}

// watch waits for one change. It uses a stream of its own and not the client's Watcher, which
// would hide an outage for as long as it lasts.
func watch(ctx context.Context, client *clientv3.Client, watches []lock.Watch) (snap lock.Snapshot, err error) {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	overdue := time.AfterFunc(attemptTimeout, func() { cancel(context.DeadlineExceeded) })
	defer overdue.Stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	stream, err := etcdserverpb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return lock.Snapshot{}, err
	}
	for _, w := range watches {
		create := &etcdserverpb.WatchCreateRequest{Key: []byte(w.Key), StartRevision: w.After + 1}
		if w.End != "" {
			create.RangeEnd = []byte(w.End)
		}
		// An error of Send is only that the stream has ended; Recv says why.
		_ = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	var newest int64
	for _, w := range watches {
		newest = max(newest, w.After)
	}
	for created := 0; ; {
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return lock.Snapshot{}, err
		case resp.CompactRevision != 0:
			return lock.Snapshot{}, rpctypes.ErrCompacted
		case resp.Canceled:
			return lock.Snapshot{}, fmt.Errorf("etcd ended the watch: %s", resp.CancelReason)
		case resp.Created:
			if created++; created < len(watches) {
				break
			}
			// A member may be behind the others for a moment, but etcd as a whole only if it was
			// restored from a backup: a watch reports nothing until etcd reaches its revision.
			if resp.Header.Revision < newest {
				if now, err := revision(ctx, client, watches[0].Key); err != nil || now < newest {
					return lock.Snapshot{}, err
				}
			}
			overdue.Stop()
		}
		if len(resp.Events) == 0 {
			continue
		}
		snap = lock.Snapshot{Values: map[string]lock.Value{}}
		for _, event := range resp.Events {
			snap.Revision = event.Kv.ModRevision
			if event.Type == clientv3.EventTypePut {
				snap.Values[string(event.Kv.Key)] = value(event.Kv)
			} else {
				snap.Values[string(event.Kv.Key)] = lock.Value{}
			}
		}
		return snap, nil
	}
}

// revision returns the current revision of etcd. key is one that this client may read.
func revision(ctx context.Context, client *clientv3.Client, key string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	resp, err := client.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// Grant implements [lock.Store].
func (e *Store) Grant(ctx context.Context, ttl time.Duration) (lease int64, err error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	err = e.retry(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		resp, err := client.Grant(ctx, seconds) // a lease whose reply is lost runs out
		if err == nil {
			lease = int64(resp.ID)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("get a lease: %w", err)
	}
	return lease, nil
}

// KeepAlive implements [lock.Store]. It does not use the client's KeepAlive, which retries without end.
func (e *Store) KeepAlive(ctx context.Context, lease int64) error {
	err := e.once(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), attemptTimeout)
		defer cancel()
		stream, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		// An error of Send is only that the stream has ended; Recv says why.
		_ = stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: lease})
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.TTL <= 0 {
			return lock.ErrNoLease
		}
		return stream.CloseSend()
	})
	if err != nil {
		return fmt.Errorf("keep the lease: %w", err)
	}
	return nil
}

// Revoke implements [lock.Store].
func (e *Store) Revoke(ctx context.Context, lease int64) error {
	err := e.retry(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		_, err := client.Revoke(ctx, clientv3.LeaseID(lease))
		return err
	})
	if err != nil && !errors.Is(err, lock.ErrNoLease) {
		return fmt.Errorf("end the lease: %w", err)
	}
	return nil
}

// brief names the key of the first of several, and says that there are others.
func brief[T any](of []T, key func(T) string) string {
	switch len(of) {
	case 0:
		return "keys"
	case 1:
		return key(of[0])
	}
	return key(of[0]) + " and others"
}

func gets(reads []lock.Read) []clientv3.Op {
	var ops []clientv3.Op
	for _, r := range reads {
		options := []clientv3.OpOption{clientv3.WithLimit(int64(r.Limit))}
		if r.End != "" {
			options = append(options, clientv3.WithRange(r.End))
		}
		if r.KeysOnly {
			options = append(options, clientv3.WithKeysOnly())
		}
		if r.CreatedBefore != 0 {
			options = append(options, clientv3.WithMaxCreateRev(r.CreatedBefore-1),
				clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
		}
		ops = append(ops, clientv3.OpGet(r.Key, options...))
	}
	return ops
}

// snapshot collects what the gets of a transaction have read.
func snapshot(resp *clientv3.TxnResponse) lock.Snapshot {
	snap := lock.Snapshot{Revision: resp.Header.Revision, Values: map[string]lock.Value{}}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			if _, ok := snap.Values[string(kv.Key)]; !ok {
				snap.Values[string(kv.Key)] = value(kv)
			}
		}
	}
	return snap
}

func value(kv *mvccpb.KeyValue) lock.Value {
	return lock.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
}

// retry runs do until it succeeds, is refused, or has failed too often. After the first attempt without an
// answer it searches for the cause, beside the attempts that follow.
func (e *Store) retry(ctx context.Context, do func(*clientv3.Client) error) error {
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed failures
	var found <-chan causes
	explained := func(failed failures) error {
		if found == nil {
			return failed
		}
		return (<-found).explain(failed)
	}
	for attempt := 1; ; attempt++ {
		err := e.once(ctx, do)
		if err == nil || settled(err) || errors.Is(err, context.Canceled) {
			return err
		}
		failed = failed.with(err)
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			return explained(failed.with(ctx.Err())) // etcd was sent the deadline, too, and may report it first
		}
		if ctx.Err() != nil || attempt == attempts {
			return explained(failed)
		}
		if _, unanswered := errors.AsType[*noAnswerError](err); unanswered && found == nil {
			found = e.config.startProbe(probing)
		}
		backoff.Sleep(ctx, backoff.Delay(attempt, 200*time.Millisecond, time.Second))
	}
}

// noAnswerError is a failure where perhaps no etcd was reached.
type noAnswerError struct{ error }

func (e *noAnswerError) Unwrap() error { return e.error }

// settled reports whether err is an answer rather than a failure.
func settled(err error) bool {
	return errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrNoLease) || errors.Is(err, rpctypes.ErrCompacted)
}

// failures are the errors of several attempts, as one.
type failures []error

// with adds err, unless another attempt has failed for the same reason.
func (f failures) with(err error) failures {
	if slices.ContainsFunc(f, func(e error) bool { return e.Error() == err.Error() }) {
		return f
	}
	return append(f, err)
}

func (f failures) Error() string {
	var s []string
	for _, err := range f {
		s = append(s, err.Error())
	}
	return strings.Join(s, "; ")
}

func (f failures) Unwrap() []error { return f }

// once connects if need be and runs do. A failure drops the connection; the next one
// is made with other endpoints, and reads the files again.
func (e *Store) once(ctx context.Context, do func(*clientv3.Client) error) error {
	client, at, err := e.connect(ctx)
	if err == nil {
		err = do(client)
	}
	err = e.explain(ctx, at, err)
	if err != nil && !settled(err) && ctx.Err() == nil {
		e.abandon(client)
	}
	return err
}

// abandon drops the connection of client after a failure.
func (e *Store) abandon(client *clientv3.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == client { // otherwise another call has abandoned it already
		e.client = nil
		e.failures++
	}
	if client != nil {
		_ = client.Close() // the failure at hand matters more
	}
}

// connect returns the client, after logging in if it is a new one, and the endpoints that it uses.
func (e *Store) connect(ctx context.Context) (client *clientv3.Client, at []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, e.client.Endpoints(), nil
	}
	use, wrong := e.config.target()
	at = use.endpoints
	switch {
	case len(wrong) > 0 && e.worked:
		return nil, at, errors.New(wrong[0].Error()) // no refusal any more
	case len(wrong) > 0:
		return nil, at, wrong[0]
	}
	e.worked = true
	if i := e.failures % (len(at) + 1); i > 0 && len(at) > 1 {
		at = slices.Delete(at, i-1, i)
	}
	// The client lives until it is closed; ctx only bounds the log-in that New makes.
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	client, err = clientv3.New(clientv3.Config{
		Endpoints:            at,
		TLS:                  use.tls,
		Username:             e.config.Username,
		Password:             use.password,
		Context:              life,
		DialTimeout:          attemptTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		// No retries: the client also repeats transactions that were canceled or timed out at
		// the server, and where the first has happened the second looks like a lost race.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
			grpc.WithChainUnaryInterceptor(failFast, failLogin),
			// Requests have a few hundred bytes; the default of 32 KiB a direction is much on small hosts.
			grpc.WithReadBufferSize(bufferSize),
			grpc.WithWriteBufferSize(bufferSize),
		},
	})
	if err != nil {
		end()
		return nil, at, err
	}
	if !stop() {
		_ = client.Close()
		return nil, at, ctx.Err()
	}
	e.client = client
	return client, at, nil
}

// failFast makes a request fail, with the reason, when all endpoints are down. The etcd client
// would let it wait and then report only a time-out.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// failLogin turns the answer that the log-in has run out into a failure, after which a new client logs in.
// The etcd client would log in again by itself, but sends the outdated token with that, which etcd
// 3.4 answers in the same way, and so on until the deadline.
func failLogin(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if status.Code(err) == codes.Unauthenticated {
		return status.Error(codes.Unavailable, "the log-in has run out")
	}
	return err
}

// explain words the error of a request for people, and marks answers as such.
//
// Only some of the codes that etcd answers with, the ones below, mean for certain that a transaction did not
// and will not happen. The others may come from a server that lost the leader after it had
// passed the transaction on; "database space exceeded" (ResourceExhausted) also comes with a transaction that
// has happened.
func (e *Store) explain(ctx context.Context, endpoints []string, err error) error {
	if err == nil || settled(err) {
		return err
	}
	at := strings.Join(endpoints, ", ")
	switch ctx.Err() {
	case context.Canceled:
		return ctx.Err()
	case context.DeadlineExceeded:
		return fmt.Errorf("no answer in time from etcd at %s: %w", at, ctx.Err())
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return lock.ErrNoLease
	}
	code, message := describe(err)
	switch code {
	case codes.PermissionDenied:
		return fmt.Errorf("etcd %w: %s needs permission to read and write all keys below %s/", lock.ErrRefused, e.user(), lock.Root)
	case codes.InvalidArgument:
		switch {
		case errors.Is(err, rpctypes.ErrAuthFailed):
			in := ""
			if e.config.PasswordFile != "" {
				in = " in " + e.config.PasswordFile
			}
			return fmt.Errorf("etcd %w: the user name or password%s of %s is wrong", lock.ErrRefused, in, e.user())
		case errors.Is(err, rpctypes.ErrUserEmpty) && e.config.Username == "":
			return fmt.Errorf("etcd %w: it demands a user; set %s", lock.ErrRefused, e.config.names(OptionUsername, OptionPassword))
		case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrAuthOldRevision):
			// Users were set up in etcd after the log-in; the next log-in helps.
			return fmt.Errorf("etcd at %s: %s", at, message)
		default:
			return fmt.Errorf("etcd %w: %s", lock.ErrRefused, message)
		}
	case codes.Unimplemented:
		return fmt.Errorf("%w: the server at %s is not etcd, or older than version 3: %s; %s", lock.ErrRefused, at, message, e.config.check("host and port"))
	case codes.DeadlineExceeded:
		return &noAnswerError{fmt.Errorf("no answer in time from etcd at %s", at)}
	case codes.Unavailable:
		return &noAnswerError{fmt.Errorf("etcd at %s: %s", at, message)}
	default:
		return fmt.Errorf("etcd at %s: %s", at, message)
	}
}

// user names this client as etcd knows it.
func (e *Store) user() string {
	switch {
	case e.config.Username != "":
		return fmt.Sprintf("user %q", e.config.Username)
	case e.config.CertFile != "":
		return "the user that certificate " + e.config.CertFile + " names"
	default:
		return "a client without user"
	}
}

// describe takes the code and the reason out of an error of the etcd client or of gRPC.
func describe(err error) (codes.Code, string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded, ""
	}
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code(), strings.TrimPrefix(e.Error(), "etcdserver: ")
	}
	s := status.Convert(err)
	message, _, _ := strings.Cut(s.Message(), "\n") // a web server's page follows
	if _, inner, ok := strings.Cut(message, `desc = "`); ok {
		message = strings.TrimSuffix(inner, `"`)
	}
	message = strings.TrimPrefix(message, "transport: ")
	return s.Code(), strings.TrimPrefix(message, "Error while dialing: ")
}
