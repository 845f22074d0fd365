package integration

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"sandboxd/sandbox"
)

// Servers on the host: what --network none must not reach, and host must.
func TestNetwork(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		tcp := listen(t, "tcp", "127.0.0.1:0")
		_, port, err := net.SplitHostPort(tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		abstract, socket := "sandboxd-integration-"+filepath.Base(d), filepath.Join(d, "docker.sock")
		listen(t, "unix", "@"+abstract)
		listen(t, "unix", socket)
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
		probe := []string{"probe_net", "tcp:" + port, "tcp6:" + port, "udp:" + port, "abstract:" + abstract, "unix:" + socket}
		const sealed = "abstract: ECONNREFUSED|EPERM|ENOENT\nunix: ENOENT\n"
		const closed = "ECONNREFUSED|ENETUNREACH|EACCES|EPERM|EADDRNOTAVAIL|EAFNOSUPPORT"

		res := c.attack(t, "", probe...)
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, "tcp: "+closed+"\ntcp6: "+closed+"\nudp: "+closed+"|EAGAIN\n"+sealed)

		probe[0] = "probe_net"
		res = c.attack(t, "--network host", probe...)
		res.want(t, 0, sandbox.Exited)
		open := sealed
		if res.missing("landlock(scope.abstract_unix_socket)") { // by age of the kernel, which the report must say
			open = "abstract: OK\nunix: ENOENT\n"
		}
		compare(t, res.stdout, "tcp: OK\ntcp6: "+closed+"\nudp: "+closed+"|EAGAIN\n"+open)
		if res.report != nil && res.report.Isolation.Network != "host" {
			t.Errorf("the report calls the network %q", res.report.Isolation.Network)
		}
		// Loopback of one's own works under none: programs expect to talk to themselves.
		c.run(t, "", "/usr/bin/python3", "-c", "import socket as s; l=s.create_server(('127.0.0.1',0)); s.create_connection(l.getsockname())").want(t, 0, sandbox.Exited)
	})
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
