package journal

// A MessageID is the MESSAGE_ID= of a kind of lines, by which the journal's catalog explains them: each has an entry in
// systemd/locksmith.catalog. It never changes, since operators select lines by it. `systemd-id128 new` makes one.
type MessageID string

// The daemon has entered a state.
const (
	EnteredSettling  MessageID = "9da536f696584dff8fb0d0f897ec0472"
	EnteredIdle      MessageID = "ba0843f3baf14a4bbc11c09a9494f58f"
	EnteredWaiting   MessageID = "9cfd1d0b99484fc6a269b7382f267c55"
	EnteredLocking   MessageID = "671ab77d6d4448888d761b99a847a7c3"
	EnteredPreparing MessageID = "e4ca688a00444451ba7d9c99847f9e5a"
	EnteredRebooting MessageID = "49dc3c19d9c74fa2b666b9f81c9188a4"
	EnteredReleasing MessageID = "9b33c286aaee4b1bb41b5bbad7dcd728"
	EnteredLeft      MessageID = "3a5cd8960d4a42e9a43aa74ed3bbec28"
)

// Something happened that an operator may have to look at.
const (
	HeldBack      MessageID = "68fd1f788cfb458abdaca5ff2683c54f" // something on the host holds the reboot back
	AttemptsUsed  MessageID = "82fc045cc5c14ef999ba4f5c8fe3f9d5" // too many reboots did not bring the version up
	RebootFailed  MessageID = "d1bc9f6741de469a9666924d9e8e184f" // logind has refused the reboot, or has not answered
	HookFailed    MessageID = "65ab8f13a1334c43aa129eca8d3ace3b" // what is hooked in before a reboot, or undoes it
	CheckFailed   MessageID = "4e529ba957944fe696d0a87d132f1940" // a check after a reboot
	HostUnwell    MessageID = "d3091649ce4d42a9b51daa77bc6d568c" // the checks have not succeeded in time
	EffectFailed  MessageID = "0e172daa4e4b469b9d710c2c6c8da799" // anything else that is tried again
	SlotMayBeHeld MessageID = "71fb82b6ece941f7bba09d30927db64b" // by this host, whose daemon does not know it any more
	ConfigRefused MessageID = "59b376851d6c4cb286fc2dea324c48c6" // settings are wrong
)
