package etcd_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock/etcd"
)

// TestMain lets more tests run at once than there are processors, unless a flag says otherwise: most of
// their time is spent waiting for time-outs. It also gives the search for a cause more time than hosts do, because a busy
// machine may stand still for seconds. A call to silent endpoints alone takes 17 s by that.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	etcd.SetProbeTimeout(15 * time.Second)
	os.Exit(m.Run())
}
