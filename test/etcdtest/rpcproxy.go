package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Caught reports the progress of the first call under a fault.
type Caught struct {
	// Arrived is closed when the proxy has received the call.
	Arrived <-chan struct{}
	// Forwarded is closed when the server has answered the call, with success or not; never if the fault does not
	// forward the call.
	Forwarded <-chan struct{}
}

// trap is an armed fault.
type trap struct {
	match              Match
	fault              Fault
	once               bool
	arrived, forwarded func() // close the channels of Caught
}

// RPCProxy carries calls between clients and one server, with faults for chosen calls. The server must not use
// TLS. It is safe for concurrent use.
type RPCProxy struct {
	endpoint string
	server   *grpc.Server
	upstream *grpc.ClientConn
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	traps []*trap
	calls map[string]int
}

// NewRPCProxy puts a proxy in front of s. Close ends it.
func NewRPCProxy(s *Server) (*RPCProxy, error) {
	if s.o.TLS != nil {
		return nil, errors.New("start RPC proxy: the server uses TLS, which it cannot read")
	}
	upstream, err := grpc.NewClient("passthrough:///"+s.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		promptRedial())
	if err != nil {
		return nil, fmt.Errorf("start RPC proxy: %w", err)
	}
	l, err := listen(hostOf(s.address))
	if err != nil {
		_ = upstream.Close()
		return nil, fmt.Errorf("start RPC proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &RPCProxy{
		endpoint: "http://" + l.Addr().String(),
		upstream: upstream,
		ctx:      ctx,
		cancel:   cancel,
		calls:    map[string]int{},
	}
	p.server = grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.UnknownServiceHandler(p.handle),
		// What etcd itself allows (its flag --grpc-keepalive-min-time).
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
	p.wg.Go(func() {
		_ = p.server.Serve(l) // its error reports that it was stopped
	})
	return p, nil
}

// maxMessage, in bytes, leaves the limits on messages to client and server.
const maxMessage = 1 << 30

// Endpoint is the URL for clients.
func (p *RPCProxy) Endpoint() string { return p.endpoint }

// Close cuts every connection and ends the proxy for good.
func (p *RPCProxy) Close() {
	p.cancel()
	p.server.Stop()
	_ = p.upstream.Close() // its error reports that it was closed before
	p.wg.Wait()
}

// Next applies a fault to the next call that match chooses, and to no other.
func (p *RPCProxy) Next(match Match, fault Fault) Caught { return p.arm(match, fault, true) }

// Every applies a fault to each call that match chooses, until Clear.
func (p *RPCProxy) Every(match Match, fault Fault) Caught { return p.arm(match, fault, false) }

func (p *RPCProxy) arm(match Match, fault Fault, once bool) Caught {
	arrived, forwarded := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = append(p.traps, &trap{
		match: match, fault: fault, once: once,
		arrived:   sync.OnceFunc(func() { close(arrived) }),
		forwarded: sync.OnceFunc(func() { close(forwarded) }),
	})
	return Caught{Arrived: arrived, Forwarded: forwarded}
}

// Clear removes every fault for later calls.
func (p *RPCProxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = nil
}

// Calls returns the number of calls of a method so far; a stream is one call.
func (p *RPCProxy) Calls(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[method]
}

// Requests is the number of calls so far of every method that a lock uses, keep-alives of leases aside.
func (p *RPCProxy) Requests() (n int) {
	for _, method := range []string{Range, Put, DeleteRange, Txn, Watch, LeaseGrant, LeaseRevoke, Authenticate} {
		n += p.Calls(method)
	}
	return n
}

// spring counts a call and returns the fault for it, the first one armed, or nil.
func (p *RPCProxy) spring(method string, request []byte) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[method]++
	for i, t := range p.traps {
		if !t.match(method, request) {
			continue
		}
		if t.once {
			p.traps = append(p.traps[:i:i], p.traps[i+1:]...)
		}
		return t
	}
	return nil
}

// handle is the server side of every call, whatever its method.
func (p *RPCProxy) handle(_ any, down grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(down)
	if !ok {
		return status.Error(codes.Internal, "call without a method")
	}
	md, _ := metadata.FromIncomingContext(down.Context())
	incoming := metadata.NewOutgoingContext(down.Context(), md)
	if isStream(method) {
		carry := func() error { return p.relay(incoming, method, down) }
		return p.undergo(down.Context(), method, nil, carry, carry)
	}
	var request, reply message
	if err := down.RecvMsg(&request); err != nil {
		return err
	}
	carry := func() error { return p.invoke(incoming, method, request, &reply, down) }
	forward := func() error {
		return p.invoke(metadata.NewOutgoingContext(p.ctx, md), method, request, &reply, down)
	}
	if err := p.undergo(down.Context(), method, request.data, carry, forward); err != nil {
		return err
	}
	return down.SendMsg(&reply)
}

// undergo applies the fault for a call, with forward to make the call at the server, or else carries the call.
func (p *RPCProxy) undergo(ctx context.Context, method string, request []byte, carry, forward func() error) error {
	t := p.spring(method, request)
	if t == nil {
		return carry()
	}
	t.arrived()
	return t.fault(ctx, &Call{Method: method, closed: p.ctx.Done(), forward: func() error {
		defer t.forwarded()
		return forward()
	}})
}

// invoke makes a call of one request and one reply at the server.
func (p *RPCProxy) invoke(ctx context.Context, method string, request message, reply *message, down grpc.ServerStream) error {
	var header, trailer metadata.MD
	err := p.upstream.Invoke(ctx, method, &request, reply, grpc.Header(&header), grpc.Trailer(&trailer))
	_ = down.SetHeader(header) // fails if the client is gone, which is allowed
	down.SetTrailer(trailer)
	return err
}

// relay carries a stream until the server or ctx ends it.
func (p *RPCProxy) relay(ctx context.Context, method string, down grpc.ServerStream) error {
	// The cancel also ends the other direction when the server has ended the stream.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := p.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m message
			if err := down.RecvMsg(&m); err != nil {
				_ = up.CloseSend() // always nil
				return
			}
			if err := up.SendMsg(&m); err != nil {
				return // the reason comes from up.RecvMsg
			}
		}
	}()
	for {
		var m message
		err := up.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			down.SetTrailer(up.Trailer())
			return nil
		}
		if err != nil {
			return err
		}
		if err := down.SendMsg(&m); err != nil {
			return err
		}
	}
}

// message is a gRPC message in wire format.
type message struct{ data []byte }

// rawCodec carries messages unchanged.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a raw message", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a raw message", v)
	}
	m.data = data.Materialize()
	return nil
}

// Name returns the name that etcd's clients and server use.
func (rawCodec) Name() string { return "proto" }
