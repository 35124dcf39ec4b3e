package etcdtest

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The full names of etcd's methods.
const (
	Range        = "/etcdserverpb.KV/Range"
	Put          = "/etcdserverpb.KV/Put"
	DeleteRange  = "/etcdserverpb.KV/DeleteRange"
	Txn          = "/etcdserverpb.KV/Txn"
	Watch        = "/etcdserverpb.Watch/Watch"
	LeaseGrant   = "/etcdserverpb.Lease/LeaseGrant"
	LeaseRevoke  = "/etcdserverpb.Lease/LeaseRevoke"
	KeepAlive    = "/etcdserverpb.Lease/LeaseKeepAlive"
	Snapshot     = "/etcdserverpb.Maintenance/Snapshot"
	Authenticate = "/etcdserverpb.Auth/Authenticate"
)

// isStream reports whether a method has more than one request and one reply.
func isStream(method string) bool {
	switch method {
	case Watch, KeepAlive, Snapshot:
		return true
	default:
		return false
	}
}

// Match chooses calls. The request is in wire format, and nil for streams.
type Match func(method string, request []byte) bool

// Method chooses the calls of one method.
func Method(name string) Match {
	return func(method string, _ []byte) bool { return method == name }
}

// Writes chooses calls that may change a key: Put, DeleteRange, and a Txn with one of these in either branch.
func Writes(method string, request []byte) bool {
	switch method {
	case Put, DeleteRange:
		return true
	case Txn:
		var r pb.TxnRequest
		return proto.Unmarshal(request, &r) == nil && txnWrites(&r)
	default:
		return false
	}
}

// Reads chooses Range, and a Txn that only has Ranges.
func Reads(method string, request []byte) bool {
	return method == Range || method == Txn && !Writes(method, request)
}

func txnWrites(r *pb.TxnRequest) bool {
	for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if op.GetRequestPut() != nil || op.GetRequestDeleteRange() != nil {
				return true
			}
			if nested := op.GetRequestTxn(); nested != nil && txnWrites(nested) {
				return true
			}
		}
	}
	return false
}

// Call is a call that the proxy has and the server does not have yet.
type Call struct {
	Method  string
	forward func() error
	closed  <-chan struct{}
}

// Forward makes the call at the server and waits for the reply, even if the client no longer does. It returns the
// server's error. It may be called once.
func (c *Call) Forward() error { return c.forward() }

// Fault handles a call instead of the proxy. ctx ends when the client gives up. The client gets the error; nil
// after a successful Forward gives it the reply.
type Fault func(ctx context.Context, c *Call) error

var errConnectionLost = status.Error(codes.Unavailable, "error reading from server: EOF")

// LoseReply forwards the call and then breaks the connection: the client sees Unavailable at once.
func LoseReply(_ context.Context, c *Call) error {
	_ = c.Forward() // the client does not get the result
	return errConnectionLost
}

// WithholdReply forwards the call and leaves the client without an answer until it gives up.
func WithholdReply(ctx context.Context, c *Call) error {
	_ = c.Forward() // the client does not get the result
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// LoseRequest breaks the connection before the server gets the call. The client sees the same as with LoseReply.
func LoseRequest(context.Context, *Call) error { return errConnectionLost }

// Hang leaves the server without the call, and the client without an answer until it gives up.
func Hang(ctx context.Context, _ *Call) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// Fail answers with err, a gRPC status such as rpctypes.ErrGRPCNoSpace, and does not forward the call.
func Fail(err error) Fault {
	return func(context.Context, *Call) error { return err }
}

// Late forwards the call when release is closed, perhaps after the client has given up, and then answers.
func Late(release <-chan struct{}) Fault {
	return func(_ context.Context, c *Call) error {
		select {
		case <-release:
			return c.Forward()
		case <-c.closed:
			return errConnectionLost
		}
	}
}

// Delay forwards the call after d.
func Delay(d time.Duration) Fault {
	return func(ctx context.Context, c *Call) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return c.Forward()
		case <-c.closed:
			return errConnectionLost
		}
	}
}
