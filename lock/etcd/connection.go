package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	// attempts is how often a call that may be repeated is tried. That takes two seconds where connections are
	// refused, and ten where endpoints are silent.
	attempts = 4
	// bufferSize is the size of a connection's buffers, in bytes.
	bufferSize = 4 << 10

	// connectTimeout bounds one attempt to connect. It is longer than any request, whose own
	// timeout makes the better message.
	connectTimeout = 5 * time.Second

	// A connection that has been silent for keepaliveTime (the least that gRPC allows) while a
	// watch is open is probed, and given up after keepaliveTimeout more.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// retry runs do until it succeeds, is refused, or has failed too often. After the first attempt without an
// answer it searches for the cause, beside the attempts that follow.
func (s *Store) retry(ctx context.Context, do func(*clientv3.Client) error) error {
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed failures
	var found <-chan causes
	for attempt := 1; ; attempt++ {
		err := s.once(ctx, do)
		if err == nil || settled(err) || errors.Is(err, context.Canceled) {
			return err
		}
		failed = failed.with(err)
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			failed = failed.with(ctx.Err()) // etcd was sent the deadline, too, and may report it first
		}
		if ctx.Err() != nil || attempt == attempts {
			if found == nil {
				return failed
			}
			return (<-found).explain(failed)
		}
		if _, unanswered := errors.AsType[*noAnswerError](err); unanswered && found == nil {
			found = s.config.startProbe(probing)
		}
		backoff.Sleep(ctx, backoff.Delay(attempt, 200*time.Millisecond, time.Second))
	}
}

// noAnswerError is a failure where perhaps no etcd was reached.
type noAnswerError struct{ error }

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

// connection is a client, which is closed once it was abandoned and no call uses it any more. Store.mu guards it.
type connection struct {
	client    *clientv3.Client
	calls     int
	abandoned bool
}

// once connects if need be and runs do. A failure abandons the connection; the next one
// is made with other endpoints, and reads the files again.
func (s *Store) once(ctx context.Context, do func(*clientv3.Client) error) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.explain(ctx, c.client.Endpoints(), do(c.client))
	s.end(c, err != nil && !settled(err) && ctx.Err() == nil)
	return err
}

// end ends a call by a connection, and abandons the connection after a failure.
func (s *Store) end(c *connection, failed bool) {
	s.mu.Lock()
	if failed && s.current == c { // otherwise another call has abandoned it already
		s.current = nil
		s.failures++
	}
	c.abandoned = c.abandoned || failed
	c.calls--
	unused := c.abandoned && c.calls == 0
	s.mu.Unlock()
	if unused {
		_ = c.client.Close() // the failure at hand matters more
	}
}

// connect begins a call by the connection, which is made if there is none. Calls that wait while another one makes it
// share the outcome.
func (s *Store) connect(ctx context.Context) (*connection, error) {
	c, before := s.begin()
	if c != nil {
		return c, nil
	}
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		v := validation{Config: s.config}
		return nil, s.explain(ctx, v.endpoints(), ctx.Err())
	}
	c, now := s.begin()
	switch {
	case c != nil:
		return c, nil
	case now.number != before.number && now.err != nil:
		return nil, now.err
	}
	client, at, err := s.dial(ctx)
	err = s.explain(ctx, at, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed = dialed{number: now.number + 1}
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		if s.dialed.err = err; !settled(err) {
			s.failures++
		}
		return nil, err
	}
	s.current = &connection{client: client, calls: 1}
	return s.current, nil
}

// dial makes a client, and returns it with the endpoints that it uses, also if that fails. The caller has to hold
// dialing.
func (s *Store) dial(ctx context.Context) (client *clientv3.Client, at []string, err error) {
	s.mu.Lock()
	failures := s.failures
	s.mu.Unlock()
	use, wrong := s.config.target()
	at = use.endpoints
	switch {
	case len(wrong) > 0 && s.worked:
		return nil, at, errors.New(wrong[0].Error()) // not a refusal: the files were right once
	case len(wrong) > 0:
		return nil, at, wrong[0]
	}
	s.worked = true
	if i := failures % (len(at) + 1); i > 0 && len(at) > 1 {
		at = slices.Delete(at, i-1, i)
	}
	// The client lives until it is closed; ctx only bounds the log-in that New makes.
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	client, err = clientv3.New(clientv3.Config{
		Endpoints:            at,
		TLS:                  use.tls,
		Username:             s.config.Username,
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
			grpc.WithChainUnaryInterceptor(failFast, failLogin, failLarge),
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
	return client, at, nil
}

// begin begins a call by the connection, nil if there is none, and returns how the last attempt to make one has ended.
func (s *Store) begin() (*connection, dialed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.calls++
	}
	return s.current, s.dialed
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

// mostKey is the key in a context of how many bytes an answer may have.
type mostKey struct{}

// withMost bounds the answers to requests with this context as the reads say.
func withMost(ctx context.Context, reads []lock.Read) context.Context {
	most := 0
	for _, r := range reads {
		if r.AtMost > 0 && (most == 0 || r.AtMost < most) {
			most = r.AtMost
		}
	}
	if most == 0 {
		return ctx
	}
	return context.WithValue(ctx, mostKey{}, most)
}

// failLarge refuses an answer that is larger than its context allows, before it is in memory.
func failLarge(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	most, bounded := ctx.Value(mostKey{}).(int)
	if !bounded {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.MaxCallRecvMsgSize(most))...)
	if s, ok := status.FromError(err); ok && s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "received message") {
		return fmt.Errorf("%w: %w: more than %d bytes", lock.ErrRefused, lock.ErrTooLarge, most)
	}
	return err
}

// explain words the error of a request for people, and marks answers as such.
//
// Only some of the codes that etcd answers with, the ones below, mean for certain that a transaction did not and
// will not happen. The others may come from a server that lost the leader after it had passed the transaction on;
// "database space exceeded" (ResourceExhausted) also comes with a transaction that has happened.
func (s *Store) explain(ctx context.Context, endpoints []string, err error) error {
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
		return fmt.Errorf("etcd %w: %s needs permission to read and write all keys below %s/", lock.ErrRefused, s.user(), lock.Root)
	case codes.InvalidArgument:
		switch {
		case errors.Is(err, rpctypes.ErrAuthFailed):
			in := ""
			if s.config.PasswordFile != "" {
				in = " in " + s.config.PasswordFile
			}
			return fmt.Errorf("etcd %w: the user name or password%s of %s is wrong", lock.ErrRefused, in, s.user())
		case errors.Is(err, rpctypes.ErrUserEmpty) && s.config.Username == "":
			return fmt.Errorf("etcd %w: it demands a user; set %s", lock.ErrRefused, s.config.names(OptionUsername, OptionPassword))
		case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrAuthOldRevision):
			// Users were set up in etcd after the log-in; the next log-in helps.
			return fmt.Errorf("etcd at %s: %s", at, message)
		default:
			return fmt.Errorf("etcd %w: %s", lock.ErrRefused, message)
		}
	case codes.Unimplemented:
		return fmt.Errorf("%w: the server at %s is not etcd, or older than version 3: %s; %s", lock.ErrRefused, at, message, s.config.check("host and port"))
	case codes.DeadlineExceeded:
		return &noAnswerError{fmt.Errorf("no answer in time from etcd at %s", at)}
	case codes.Unavailable:
		return &noAnswerError{fmt.Errorf("etcd at %s: %s", at, message)}
	default:
		return fmt.Errorf("etcd at %s: %s", at, message)
	}
}

// user names this client as etcd knows it.
func (s *Store) user() string {
	switch {
	case s.config.Username != "":
		return fmt.Sprintf("user %q", s.config.Username)
	case s.config.CertFile != "":
		return "the user that certificate " + s.config.CertFile + " names"
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
