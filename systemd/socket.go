package systemd

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// writeTimeout bounds one write to the bus, during which godbus holds its locks. A bus that takes
	// nothing for this long will not recover.
	writeTimeout = 10 * time.Second
	// maxMessage bounds a message, in bytes: no message that this program needs is longer. The bus
	// lets others send 32 MiB, which is all the memory that the unit file grants.
	maxMessage = 256 << 10
	// fixedHeader is the length of the header's fixed part, see "Message Format" in the D-Bus specification.
	fixedHeader = 16
)

// socket stands between godbus and the bus, to protect the connection from other users: anybody may send
// any signal to any connection, and godbus closes a connection on a message that it cannot decode, even
// if the bus accepts it (one with a dictionary whose keys are booleans, for example).
//
// So once authentication is over, socket reads whole messages, and drops those that are too big or that
// godbus cannot decode. If such a message answers a call, the caller gets an error named errUnreadable
// instead of a time-out. One goroutine may read, and one may write; godbus keeps to that.
//
// socket also agrees to receive file descriptors: dbus-broker answers GetConnectionCredentials with one of
// the process, and disconnects a caller that has not agreed. None is received: the kernel closes
// those for which a read provides no room.
type socket struct {
	net.Conn
	most   int64  // bytes of a message; 0: maxMessage
	framed bool   // authentication is over: only messages follow
	frame  []byte // the unread rest of a message
}

func (s *socket) Write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	// BEGIN is the client's last line of authentication. godbus starts its reader only after it has written this.
	if !s.framed && bytes.HasPrefix(p, []byte("BEGIN")) {
		if err := s.negotiate(); err != nil {
			s.Close()
			return 0, err
		}
		s.framed = true
	}
	n, err := s.Conn.Write(p)
	if err != nil {
		// Half a message may have been sent: end the connection for the reader as well.
		s.Close()
	}
	return n, err
}

// negotiate tells the bus that it may send file descriptors. A bus that does not support them answers
// ERROR, see "Authentication Protocol" in the D-Bus specification.
func (s *socket) negotiate() error {
	if _, err := io.WriteString(s.Conn, "NEGOTIATE_UNIX_FD\r\n"); err != nil {
		return err
	}
	line, err := readLine(s.Conn)
	if err != nil {
		return err
	}
	known := bytes.HasPrefix(line, []byte("AGREE_UNIX_FD")) || bytes.HasPrefix(line, []byte("ERROR"))
	if !known || !bytes.HasSuffix(line, []byte("\r\n")) {
		return fmt.Errorf("authenticate with the bus: it answers NEGOTIATE_UNIX_FD with %q", line)
	}
	return nil
}

// readLine reads a line of the authentication, and nothing after it.
func readLine(from io.Reader) (line []byte, err error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) && len(line) < 1024 {
		var next [1]byte
		if _, err := io.ReadFull(from, next[:]); err != nil {
			return nil, err
		}
		line = append(line, next[0])
	}
	return line, nil
}

func (s *socket) Read(p []byte) (int, error) {
	if !s.framed {
		return s.Conn.Read(p)
	}
	for len(s.frame) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.frame)
	s.frame = s.frame[n:]
	return n, nil
}

// next reads one message into frame, and leaves frame empty if the message is dropped.
func (s *socket) next() error {
	var head [fixedHeader]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return err
	}
	var order binary.ByteOrder
	switch head[0] {
	case 'l':
		order = binary.LittleEndian
	case 'B':
		order = binary.BigEndian
	default:
		return fmt.Errorf("read from the bus: a message begins with %q", head[0])
	}
	body := int64(order.Uint32(head[4:]))
	fields := (int64(order.Uint32(head[12:])) + 7) &^ 7
	rest := fields + body
	keep := rest
	most := cmp.Or(s.most, maxMessage)
	if rest > most {
		keep = min(fields, most) // the fields say which call the message answers
	}
	frame := make([]byte, fixedHeader+keep)
	copy(frame, head[:])
	if _, err := io.ReadFull(s.Conn, frame[fixedHeader:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, s.Conn, rest-keep); err != nil {
		return err
	}
	header := frame[fixedHeader : fixedHeader+min(keep, fields)]
	why := "the answer cannot be decoded"
	switch {
	case keep < rest:
		why = fmt.Sprintf("the answer has more than %d bytes", most)
	case ofBus(order, header) || decodable(frame):
		s.frame = frame
		return nil
	}
	if kind := dbus.Type(head[1]); kind != dbus.TypeMethodReply && kind != dbus.TypeError {
		return nil
	}
	if serial, ok := headerField(order, header, dbus.FieldReplySerial); ok {
		s.frame = unreadable(order.Uint32(serial), why)
	}
	return nil
}

// ofBus reports whether the bus itself sent a message. Nobody can forge that, because the bus writes the
// sender into each message. The bus's own messages can be decoded; trying costs 12 KiB of memory each time.
func ofBus(order binary.ByteOrder, header []byte) bool {
	sender, ok := headerField(order, header, dbus.FieldSender)
	return ok && string(sender) == "org.freedesktop.DBus"
}

// headerField returns the value of a header field that is a number or a string, and false if there is none. A
// field begins at a multiple of eight bytes, and consists of a code and a variant.
func headerField(order binary.ByteOrder, fields []byte, wanted dbus.HeaderField) (value []byte, ok bool) {
	const aligned = 4 // code, length of the signature, the signature of one type, its end
	for len(fields) >= aligned+4 && fields[1] == 1 {
		code, kind, rest := dbus.HeaderField(fields[0]), fields[2], fields[aligned:]
		begin, end, size := 0, 4, 4
		switch kind {
		case 'u':
		case 's', 'o':
			begin, end = 4, 4+int(min(order.Uint32(rest), maxMessage))
			size = end + 1
		case 'g':
			begin, end = 1, 1+int(rest[0])
			size = end + 1
		default:
			return nil, false
		}
		if code == wanted {
			return rest[min(begin, len(rest)):min(end, len(rest))], true
		}
		fields = fields[min(len(fields), (aligned+size+7)&^7):]
	}
	return nil, false
}

// unreadable returns the error message that a caller gets in place of a dropped answer.
func unreadable(serial uint32, why string) []byte {
	message := &dbus.Message{
		Type: dbus.TypeError,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(serial),
			dbus.FieldErrorName:   dbus.MakeVariant(errUnreadable),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(why)),
		},
		Body: []any{why},
	}
	var frame bytes.Buffer
	if err := message.EncodeTo(&frame, binary.LittleEndian); err != nil {
		panic(fmt.Sprintf("systemd: %v", err)) // cannot happen: all its parts are above
	}
	return frame.Bytes()
}

// decodable reports whether godbus can decode a message, by decoding it. A message that makes godbus panic
// here would make it panic in its own reader.
func decodable(frame []byte) (ok bool) {
	defer func() { _ = recover() }() // ok stays false
	_, err := dbus.DecodeMessage(bytes.NewReader(frame))
	return err == nil
}
