//go:build race

package e2e

// raceDetector tells that the programs are built with it as well.
const raceDetector = true
