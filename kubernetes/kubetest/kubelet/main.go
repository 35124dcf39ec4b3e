// Command kubelet stands in for the kubelet of the host that it runs on, whose name is that of the node.
//
// A pod is only an object: it becomes ready, and ends, when this program says so. At SIGTERM the program reports that the
// node is not Ready. The flags -start-after and -end-after say how long pods take to be ready, and to end.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
)

func main() {
	log.SetFlags(0)
	k := kubetest.Kubelet{Kubeconfig: kubetest.HostKubeconfig, Logf: log.Printf}
	flag.DurationVar(&k.StartAfter, "start-after", 500*time.Millisecond, "how long pods take to be ready")
	flag.DurationVar(&k.EndAfter, "end-after", 500*time.Millisecond, "how long pods take to end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var err error
	if k.Node, err = os.Hostname(); err != nil {
		log.Fatal(err)
	}
	if err := k.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
