package fleetlock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"unicode"
	"unicode/utf8"
)

// maxLength is the length in bytes that an id and a group may have.
const maxLength = 256

// Params says which host asks, and in which group: client_params in the body of a request.
type Params struct {
	ID    string // of the host; upper and lower case differ
	Group string // the hosts that share slots
}

// DefaultGroup is the group of a client for which no other is set, as with Zincati.
const DefaultGroup = "default"

var groupPattern = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

// Check returns an error that says, in one line, which parameter is not allowed, and why. An id has 1 to 256 bytes of
// printable characters, and a group 1 to 256 ASCII letters, digits, dots and hyphens.
func (p Params) Check() error {
	for _, param := range []struct{ name, value string }{{"id", p.ID}, {"group", p.Group}} {
		switch {
		case param.value == "":
			return fmt.Errorf("client_params.%s is missing or empty", param.name)
		case len(param.value) > maxLength:
			return fmt.Errorf("client_params.%s has %d bytes: at most %d are allowed", param.name, len(param.value), maxLength)
		}
	}
	for _, r := range p.ID {
		// U+FFFD stands for what could not be decoded: two different ids would become the same.
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return fmt.Errorf("client_params.id has the character %U: only printable characters are allowed", r)
		}
	}
	if !groupPattern.MatchString(p.Group) {
		return fmt.Errorf("client_params.group is %q: only the letters a-z and A-Z, digits, dots and hyphens are allowed", p.Group)
	}
	return nil
}

// Encode returns the body of a request.
func (p Params) Encode() []byte {
	var body struct {
		ClientParams struct {
			ID    string `json:"id"`
			Group string `json:"group"`
		} `json:"client_params"`
	}
	body.ClientParams.ID, body.ClientParams.Group = p.ID, p.Group
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return data
}

// Decode reads and checks the body of a request. Names of members have to be written exactly, members with other names
// are ignored, and of several with the same name the last one counts.
func Decode(body []byte) (Params, error) {
	var request, params map[string]json.RawMessage
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(body, &request); {
	case len(bytes.TrimSpace(body)) == 0:
		return Params{}, errors.New("the body is empty")
	case !utf8.Valid(body):
		return Params{}, errors.New("the body is not valid UTF-8")
	case errors.As(err, &syntax):
		return Params{}, fmt.Errorf("the body is not valid JSON: %w", err)
	case err != nil:
		return Params{}, errors.New("the body is not a JSON object")
	case request["client_params"] == nil:
		return Params{}, errors.New("client_params is missing")
	case json.Unmarshal(request["client_params"], &params) != nil:
		return Params{}, errors.New("client_params is not an object")
	}
	var p Params
	for _, param := range []struct {
		name string
		to   *string
	}{{"id", &p.ID}, {"group", &p.Group}} {
		if value := params[param.name]; value != nil && json.Unmarshal(value, param.to) != nil {
			return Params{}, fmt.Errorf("client_params.%s is not a string", param.name)
		}
	}
	if err := p.Check(); err != nil {
		return Params{}, err
	}
	return p, nil
}
