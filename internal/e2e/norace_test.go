//go:build !race

package e2e

// raceDetector tells whether the programs are built with it.
const raceDetector = false
