package fleetlock

import (
	"errors"
	"fmt"
	"net/http"
)

// The kinds of error that locksmith's server answers. They are few, so that a client may make them a label of its
// metrics. Other servers have other kinds.
const (
	// KindLockHeld: every slot is held by another host. Code 423.
	KindLockHeld = "lock_held"
	// KindPaused: an administrator, or a host that is unwell after its reboot, has stopped reboots. Code 423.
	KindPaused = "paused"
	// KindWindowShut: the reboot window is shut. Code 423.
	KindWindowShut = "window_shut"
	// KindBlocked: something else holds the reboot back, such as an alert. Code 423.
	KindBlocked = "blocked"
	// KindNotHealthyYet: the host keeps its slot because it is not well after its reboot; it is to ask for
	// steady-state again. Code 423.
	KindNotHealthyYet = "not_healthy_yet"
	// KindUnknownGroup: the server does not serve this group. Code 400.
	KindUnknownGroup = "unknown_group"
	// KindBadRequest: the body, or a parameter in it, is not as it has to be. Code 400.
	KindBadRequest = "bad_request"
	// KindMissingHeader: the request does not have the header "fleet-lock-protocol: true". Code 400.
	KindMissingHeader = "missing_header"
	// KindUnauthorized: the server wants another user or password. Code 401.
	KindUnauthorized = "unauthorized"
	// KindForbidden: the server knows the caller, who may not do this; or the request comes from a page in a browser.
	// Code 403.
	KindForbidden = "forbidden"
	// KindNotFound: the path is not one of the protocol. Code 404.
	KindNotFound = "not_found"
	// KindMethodNotAllowed: the method is not POST. Code 405.
	KindMethodNotAllowed = "method_not_allowed"
	// KindRequestTimeout: the body did not arrive in time. Code 408.
	KindRequestTimeout = "request_timeout"
	// KindRequestTooLarge: the body is longer than 64 KiB. Code 413.
	KindRequestTooLarge = "request_too_large"
	// KindTooManyRequests: the client, or its network, has asked too often; it is to wait. Code 429.
	KindTooManyRequests = "too_many_requests"
	// KindInternalError: the server failed, and its log says why. Code 500.
	KindInternalError = "internal_error"
	// KindUnavailable: the server cannot do this now, for instance because it does not reach etcd. Code 503.
	KindUnavailable = "unavailable"
)

// codes are the HTTP codes that go with our kinds.
var codes = map[string]int{
	KindLockHeld:         423,
	KindPaused:           423,
	KindWindowShut:       423,
	KindBlocked:          423,
	KindNotHealthyYet:    423,
	KindUnknownGroup:     400,
	KindBadRequest:       400,
	KindMissingHeader:    400,
	KindUnauthorized:     401,
	KindForbidden:        403,
	KindNotFound:         404,
	KindMethodNotAllowed: 405,
	KindRequestTimeout:   408,
	KindRequestTooLarge:  413,
	KindTooManyRequests:  429,
	KindInternalError:    500,
	KindUnavailable:      503,
}

// ErrUnknown is in the error of a [Client], to be found with errors.Is, if the request may have been carried out
// without a success as its answer: the host may have a slot after pre-reboot, and may have none after steady-state. A
// host with an unknown answer to pre-reboot may not reboot. Asking again settles it; a host that does not want to
// reboot any more has to ask for steady-state.
//
// Unknown are a request that was sent and got no complete answer, and every answer but 200 and those from 400 to 499.
// So are 408 and 429: something took too long, or came too often, and a proxy that answers so may have passed the
// request on. The codes from 500 on are unknown even where the server names a kind: it has not granted a slot, but may
// have noted the host as a holder. (Airlock answers 500 with the kind failed_lock when every slot is taken, when
// another host was faster, and when etcd did not answer in time, and only a person could tell these apart.)
//
// Other errors mean that the request has changed nothing: it was refused with another code from 400 to 499, or not sent
// at all.
var ErrUnknown = errors.New("the request may have been carried out")

// Error is the answer to a request that was not granted. A [Server] returns it to choose the answer; a [Client] returns
// it, to be found with errors.As, if the server's answer has this form.
type Error struct {
	Kind  string // a word for programs, such as [KindLockHeld]
	Value string // a line for people
	// Status is the HTTP code of the answer. A [Server] may leave it 0 with the kinds of this package, which have
	// their own.
	Status int
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%d)", printable(e.Kind, maxKind), printable(e.Value, maxValue), e.code())
}

// Is reports whether target is [ErrUnknown] and the answer leaves open whether the request was carried out, so that an
// Error says so also without the URL that a [Client] puts before it.
func (e *Error) Is(target error) bool { return target == ErrUnknown && unknown(e.code()) }

// code returns the HTTP code of the answer.
func (e *Error) code() int {
	if e.Status != 0 {
		return e.Status
	}
	return codes[e.Kind]
}

// unknown reports whether an answer with this code, which is not a success, leaves open whether the request was carried
// out.
func unknown(code int) bool {
	return code < 400 || code > 499 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests
}

// What is shown of a kind and of a value, in bytes.
const (
	maxKind  = 64
	maxValue = 1024
)

// document is an error as it is in the body of an answer.
type document struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}
