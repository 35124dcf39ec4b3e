package systemd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// A Property is a property of an object on the bus. Its value is of a type that D-Bus has.
type Property struct {
	Name  string
	Value any
}

// ObjectName says where an object is on the bus.
type ObjectName struct {
	Bus       string // well-known name, such as io.github.locksmithd.Locksmith1
	Path      dbus.ObjectPath
	Interface string // of its properties
}

// An Export is an object on the system bus that has nothing but properties: everybody may read them, nobody may write
// them, and PropertiesChanged tells of each change. It uses a connection of its own, which anybody can flood. So one
// goroutine reads a call, answers it, and only then reads the next: the calls of others wait in the bus, which bounds
// them, and cost this process the memory of one. Calls longer than maxCall are dropped.
type Export struct {
	name         ObjectName
	log          *slog.Logger
	refusedEvery time.Duration // the least time between two tries after the bus has refused the name

	mu      sync.Mutex
	current []Property
	changed chan struct{} // has an entry if current has changed
}

const (
	// maxCall bounds a message to an Export, in bytes. The longest call that it understands has some hundred.
	maxCall = 8 << 10
	// After a lost connection another one is made, later and later, while nothing else wakes the process.
	reconnectFirst = time.Second
	reconnectLimit = 5 * time.Minute
)

// NewExport returns an object that is on the bus while Run runs.
func NewExport(name ObjectName, properties []Property, log *slog.Logger) *Export {
	return &Export{name: name, log: log, refusedEvery: time.Minute, current: properties, changed: make(chan struct{}, 1)}
}

// Set replaces the properties, which have the same names and types as before. It returns at once, also if the bus does
// not take anything, and may be called by several goroutines.
func (e *Export) Set(properties []Property) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = properties
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// get returns the properties. Nobody changes the slice.
func (e *Export) get() []Property {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

// Run has the object on the bus until ctx ends. It warns once when it is not there any more, and tries again: after a
// lost connection from time to time, after a refused name when the properties change next, since the policy of the bus
// seldom changes.
func (e *Export) Run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		owned, err := e.serve(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case owned:
			failures = 0
		}
		refused := answered(err, errAccessDenied)
		switch {
		case failures > 0:
			e.log.Debug("the state of this host is not on the bus", "error", err)
		case refused:
			e.log.Warn("the state of this host is not on the bus, for locksmithctl status -host and others: the bus lacks the policy file"+
				" /usr/share/dbus-1/system.d/"+e.name.Bus+".conf, or has not read it; it is tried again when the state changes", "error", err)
		default:
			e.log.Warn("the state of this host is not on the bus, for locksmithctl status -host and others; it is tried again", "error", err)
		}
		if !refused {
			backoff.Sleep(ctx, backoff.Delay(failures, reconnectFirst, reconnectLimit))
			continue
		}
		backoff.Sleep(ctx, e.refusedEvery)
		select {
		case <-e.changed:
		case <-ctx.Done():
		}
	}
}

// serve has the object on the bus until the connection is lost, and reports whether it was there.
func (e *Export) serve(ctx context.Context) (owned bool, err error) {
	c, err := dial(ctx, newCallee)
	if err != nil {
		return false, err
	}
	defer c.socket.Close()
	defer context.AfterFunc(ctx, func() { c.socket.Close() })()
	ended := make(chan struct{})
	var emitting sync.WaitGroup
	defer emitting.Wait()
	defer close(ended)
	defer c.socket.Close() // a write that hangs ends before that

	if err := c.call("Hello"); err != nil {
		return false, err
	}
	const queue = uint32(0) // the name is neither taken from another program nor given to one
	if err := c.call("RequestName", e.name.Bus, queue); err != nil {
		return false, err
	}
	emit := sync.OnceFunc(func() {
		owned = true
		emitting.Go(func() { e.emit(c, ended) })
	})
	for {
		message, err := c.read()
		if err != nil {
			return owned, err
		}
		sender, _ := message.Headers[dbus.FieldSender].Value().(string)
		switch ofBus := sender == "org.freedesktop.DBus"; {
		case message.Type == dbus.TypeMethodCall:
			if err := e.answer(c, message); err != nil {
				return owned, err
			}
		case !ofBus:
		case message.Type == dbus.TypeError:
			return owned, dbus.Error{Name: headerText(message, dbus.FieldErrorName), Body: message.Body}
		case message.Type == dbus.TypeSignal && !slices.Contains(message.Body, any(e.name.Bus)): // of the unique name
		case message.Type == dbus.TypeSignal && headerText(message, dbus.FieldMember) == "NameLost":
			return owned, fmt.Errorf("the bus has taken the name %s away", e.name.Bus)
		case message.Type == dbus.TypeSignal && headerText(message, dbus.FieldMember) == "NameAcquired":
			emit()
		case message.Type == dbus.TypeMethodReply && slices.Contains(message.Body, any(uint32(2))): // in the queue for the name
			e.log.Warn("another program has the name "+e.name.Bus+" on the bus; the state of this host is there once it ends", "see", "busctl status "+e.name.Bus)
		}
	}
}

// emit tells of each change of the properties until ended is closed.
func (e *Export) emit(c *callee, ended <-chan struct{}) {
	before := e.get()
	for {
		select {
		case <-e.changed:
		case <-ended:
			return
		}
		now := e.get()
		changed := map[string]dbus.Variant{}
		for i, p := range now {
			if !reflect.DeepEqual(p, before[i]) {
				changed[p.Name] = dbus.MakeVariant(p.Value)
			}
		}
		if before = now; len(changed) == 0 {
			continue
		}
		signal := &dbus.Message{
			Type:  dbus.TypeSignal,
			Flags: dbus.FlagNoReplyExpected,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldPath:      dbus.MakeVariant(e.name.Path),
				dbus.FieldInterface: dbus.MakeVariant(propertiesInterface),
				dbus.FieldMember:    dbus.MakeVariant("PropertiesChanged"),
			},
		}
		if err := c.send(signal, e.name.Interface, changed, []string{}); err != nil {
			c.socket.Close() // which ends the reader, who reports it
			return
		}
	}
}

const (
	propertiesInterface     = "org.freedesktop.DBus.Properties"
	introspectableInterface = "org.freedesktop.DBus.Introspectable"
	peerInterface           = "org.freedesktop.DBus.Peer"
)

// answer answers a call.
func (e *Export) answer(c *callee, call *dbus.Message) error {
	results, failure := e.dispatch(call)
	if call.Flags&dbus.FlagNoReplyExpected != 0 {
		return nil
	}
	reply := &dbus.Message{
		Type:  dbus.TypeMethodReply,
		Flags: dbus.FlagNoReplyExpected,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			dbus.FieldDestination: dbus.MakeVariant(headerText(call, dbus.FieldSender)),
		},
	}
	if failure != nil {
		reply.Type, results = dbus.TypeError, failure.Body
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(failure.Name)
	}
	return c.send(reply, results...)
}

// refusal is an error as callers get it.
func refusal(name, format string, args ...any) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error."+name, []any{fmt.Sprintf(format, args...)})
}

func (e *Export) dispatch(call *dbus.Message) (results []any, failure *dbus.Error) {
	path, _ := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	iface, member := headerText(call, dbus.FieldInterface), headerText(call, dbus.FieldMember)
	known := map[string]string{
		"Get": propertiesInterface, "GetAll": propertiesInterface, "Set": propertiesInterface,
		"Introspect": introspectableInterface, "Ping": peerInterface,
	}[member]
	below, above := strings.CutPrefix(string(e.name.Path), strings.TrimSuffix(string(path), "/")+"/")
	switch {
	case known == "" || iface != "" && iface != known:
		return nil, refusal("UnknownMethod", "there is no method %s; there are properties, which can be read", member)
	case member == "Ping":
		return nil, nil
	case member == "Introspect" && above:
		child, _, _ := strings.Cut(below, "/")
		return []any{introspectionHead + `<node><node name="` + child + `"/></node>` + "\n"}, nil
	case path != e.name.Path:
		return nil, refusal("UnknownObject", "the only object is %s", e.name.Path)
	case member == "Introspect":
		return []any{e.introspection()}, nil
	case member == "Set":
		return nil, refusal("PropertyReadOnly", "every property is read-only")
	}
	var asked []string
	for _, arg := range call.Body {
		s, ok := arg.(string)
		if !ok {
			break
		}
		asked = append(asked, s)
	}
	wanted := map[string]int{"Get": 2, "GetAll": 1}[member]
	if len(call.Body) != wanted || len(asked) != wanted {
		return nil, refusal("InvalidArgs", "%s takes %s", member, map[string]string{"Get": "an interface and a property", "GetAll": "an interface"}[member])
	}
	own := asked[0] == "" || asked[0] == e.name.Interface
	if member == "GetAll" {
		all := map[string]dbus.Variant{}
		switch {
		case own:
			for _, p := range e.get() {
				all[p.Name] = dbus.MakeVariant(p.Value)
			}
		case asked[0] != propertiesInterface && asked[0] != introspectableInterface && asked[0] != peerInterface:
			return nil, refusal("UnknownInterface", "the only interface with properties is %s", e.name.Interface)
		}
		return []any{all}, nil
	}
	for _, p := range e.get() {
		if own && p.Name == asked[1] {
			return []any{dbus.MakeVariant(p.Value)}, nil
		}
	}
	return nil, refusal("UnknownProperty", "there is no such property in that interface")
}

const introspectionHead = `<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
`

// introspection describes the object. Of the interfaces that every object has, it names the methods that are answered.
func (e *Export) introspection() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s<node>\n <interface name=%q>\n", introspectionHead, e.name.Interface)
	for _, p := range e.get() {
		fmt.Fprintf(&b, "  <property name=%q type=%q access=\"read\"/>\n", p.Name, dbus.SignatureOf(p.Value))
	}
	b.WriteString(` </interface>
 <interface name="org.freedesktop.DBus.Properties">
  <method name="Get">
   <arg name="interface" type="s" direction="in"/>
   <arg name="property" type="s" direction="in"/>
   <arg name="value" type="v" direction="out"/>
  </method>
  <method name="GetAll">
   <arg name="interface" type="s" direction="in"/>
   <arg name="properties" type="a{sv}" direction="out"/>
  </method>
  <signal name="PropertiesChanged">
   <arg name="interface" type="s"/>
   <arg name="changed" type="a{sv}"/>
   <arg name="invalidated" type="as"/>
  </signal>
 </interface>
 <interface name="org.freedesktop.DBus.Introspectable">
  <method name="Introspect">
   <arg name="xml" type="s" direction="out"/>
  </method>
 </interface>
 <interface name="org.freedesktop.DBus.Peer">
  <method name="Ping"/>
 </interface>
</node>
`)
	return b.String()
}

// headerText returns a header field that is a string, "" if it is not there.
func headerText(m *dbus.Message, field dbus.HeaderField) string {
	s, _ := m.Headers[field].Value().(string)
	return s
}

// callee is a connection to the bus whose messages are read one by one.
type callee struct {
	socket *socket
	mu     sync.Mutex // for writes
	serial uint32
}

// newCallee authenticates. It does not say Hello yet. After an error the caller closes the socket.
func newCallee(raw net.Conn) (*callee, error) {
	c := &callee{socket: &socket{Conn: raw, most: maxCall}}
	if err := c.authenticate(); err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	return c, nil
}

// authenticate says who this process is, which the kernel confirms to the bus: EXTERNAL in the D-Bus specification.
func (c *callee) authenticate() error {
	uid := hex.EncodeToString(fmt.Append(nil, os.Geteuid()))
	if _, err := io.WriteString(c.socket.Conn, "\x00AUTH EXTERNAL "+uid+"\r\n"); err != nil {
		return err
	}
	line, err := readLine(c.socket.Conn)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("the bus answers %q", line)
	}
	_, err = c.socket.Write([]byte("BEGIN\r\n"))
	return err
}

// read returns the next message.
func (c *callee) read() (*dbus.Message, error) {
	for {
		c.socket.frame = nil
		for len(c.socket.frame) == 0 {
			if err := c.socket.next(); err != nil {
				return nil, err
			}
		}
		if message, err := dbus.DecodeMessage(bytes.NewReader(c.socket.frame)); err == nil {
			return message, nil
		}
	}
}

// call calls a method of the bus. Its answer is read later.
func (c *callee) call(method string, args ...any) error {
	return c.send(&dbus.Message{
		Type: dbus.TypeMethodCall,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
			dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.DBus"),
			dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.DBus"),
			dbus.FieldMember:      dbus.MakeVariant(method),
		},
	}, args...)
}

// send writes a message with a body. It waits for the bus for writeTimeout at most.
func (c *callee) send(m *dbus.Message, body ...any) error {
	if m.Body = body; len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var frame bytes.Buffer
	if err := m.EncodeTo(&frame, binary.LittleEndian); err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	if c.serial == 0 { // after 4 billion messages: no message has this number
		c.serial++
	}
	binary.LittleEndian.PutUint32(frame.Bytes()[8:], c.serial)
	_, err := c.socket.Write(frame.Bytes())
	return err
}
