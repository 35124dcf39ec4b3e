package systemd

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// A caller whose answer is dropped learns of that at once.
func TestAnswerThatCannotBeReadIsAnError(t *testing.T) {
	const call = 42
	encode := func(order binary.ByteOrder, body any) []byte {
		t.Helper()
		m := dbus.Message{
			Type: dbus.TypeMethodReply,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldSender:      dbus.MakeVariant(":1.7"),
				dbus.FieldReplySerial: dbus.MakeVariant(uint32(call)),
				dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body)),
			},
			Body: []any{body},
		}
		var frame bytes.Buffer
		if err := m.EncodeTo(&frame, order); err != nil {
			t.Fatal(err)
		}
		return frame.Bytes()
	}
	long := strings.Repeat("x", maxMessage)
	strange := func(order binary.ByteOrder) []byte { // well-formed but for godbus
		return bytes.Replace(encode(order, map[string]string{"x": "y"}), []byte("a{ss}"), []byte("a{bs}"), 1)
	}
	for name, frame := range map[string][]byte{
		"too long": encode(binary.LittleEndian, long), "too long, big-endian": encode(binary.BigEndian, long),
		"strange": strange(binary.LittleEndian), "strange, big-endian": strange(binary.BigEndian),
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() {
				_, _ = theirs.Write(frame)
				_, _ = theirs.Write(encode(binary.LittleEndian, "next"))
			}()
			s := &socket{Conn: ours, framed: true}
			m, err := dbus.DecodeMessage(s)
			if err != nil || m.Type != dbus.TypeError || m.Headers[dbus.FieldReplySerial].Value() != uint32(call) ||
				m.Headers[dbus.FieldErrorName].Value() != errUnreadable {
				t.Errorf("got %v, %v", m, err)
			}
			if m, err := dbus.DecodeMessage(s); err != nil || len(m.Body) != 1 || m.Body[0] != "next" {
				t.Errorf("after it: %v, %v", m, err)
			}
		})
	}
}

// Whatever another program makes of the header fields, finding the serial ends.
func FuzzReplySerial(f *testing.F) {
	f.Add([]byte("\x05\x01u\x00\x2a\x00\x00\x00"))
	f.Add([]byte("\x08\x01g\x00\x01s\x00\x00\x05\x01u\x00\x2a\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, fields []byte) {
		replySerial(binary.LittleEndian, fields)
		replySerial(binary.BigEndian, fields)
	})
}
