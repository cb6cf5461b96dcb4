// A Kubernetes control plane without nodes, in one process: etcd, the API server with RBAC, and the controllers of Deployments,
// ReplicaSets and StatefulSets. What a kubelet would do, the test does.
//
// kube_apiserver DIR serves from an empty or new directory until SIGTERM and writes DIR/kubeconfig, with the contexts "admin", who may
// do anything, and "autoscaler", who may do what roles allow.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/statefulset"
)

const readyWithin = 2 * time.Minute

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	return listener.Addr().String()
}

func startEtcd(dir string) string {
	client := url.URL{Scheme: "http", Host: freeAddress()}
	peer := url.URL{Scheme: "http", Host: freeAddress()}
	config := embed.NewConfig()
	config.Dir = dir
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "error"
	server, err := embed.StartEtcd(config)
	check(err)
	<-server.Server.ReadyNotify()
	return client.String()
}

// Writes who may come with which token, and returns the token of each.
func writeTokens(path string) map[string]string {
	groups := map[string]string{"admin": "system:masters", "autoscaler": "autoscalers"}
	tokens, lines := map[string]string{}, ""
	for user, group := range groups {
		secret := make([]byte, 16)
		_, err := rand.Read(secret)
		check(err)
		tokens[user] = hex.EncodeToString(secret)
		lines += fmt.Sprintf("%s,%s,%s,%s\n", tokens[user], user, user, group)
	}
	check(os.WriteFile(path, []byte(lines), 0o600))
	return tokens
}

func startAPIServer(dir, etcd, address, tokens string) {
	_, port, err := net.SplitHostPort(address)
	check(err)
	key := filepath.Join(dir, "apiserver.key") // the server makes it, and it signs tokens of service accounts as well as any other
	command := apiserver.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + port,
		"--cert-dir=" + dir, "--token-auth-file=" + tokens, "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=" + key,
		"--service-account-key-file=" + key, "--v=0",
	})
	go func() { log.Fatal(command.Execute()) }()
}

func writeKubeconfig(path, address, authority string, tokens map[string]string) {
	config := api.NewConfig()
	config.Clusters["test"] = &api.Cluster{Server: "https://" + address, CertificateAuthority: authority}
	for user, token := range tokens {
		config.AuthInfos[user] = &api.AuthInfo{Token: token}
		config.Contexts[user] = &api.Context{Cluster: "test", AuthInfo: user}
	}
	config.CurrentContext = "admin"
	check(clientcmd.WriteToFile(*config, path))
}

// Fails as long as the server has not made its certificate or does not serve.
func connect(ctx context.Context, kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return client, err
}

func connectWhenReady(ctx context.Context, kubeconfig string) *kubernetes.Clientset {
	for end := time.Now().Add(readyWithin); ; time.Sleep(200 * time.Millisecond) {
		client, err := connect(ctx, kubeconfig)
		if err == nil {
			return client
		}
		if time.Now().After(end) {
			log.Fatalf("not ready within %s: %s", readyWithin, err)
		}
	}
}

func runControllers(ctx context.Context, client kubernetes.Interface) {
	all := informers.NewSharedInformerFactory(client, 10*time.Minute)
	apps, pods := all.Apps().V1(), all.Core().V1().Pods()
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), pods, client)
	check(err)
	sets := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), pods, client, replicaset.BurstReplicas)
	claims := all.Core().V1().PersistentVolumeClaims()
	stateful := statefulset.NewStatefulSetController(ctx, pods, apps.StatefulSets(), claims, apps.ControllerRevisions(), client)
	all.Start(ctx.Done())
	go deployments.Run(ctx, 2)
	go sets.Run(ctx, 2)
	stateful.Run(ctx, 2)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: kube_apiserver DIR")
	}
	dir, err := filepath.Abs(os.Args[1])
	check(err)
	check(os.MkdirAll(dir, 0o700))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	address, kubeconfig := freeAddress(), filepath.Join(dir, "kubeconfig")
	tokens := writeTokens(filepath.Join(dir, "tokens.csv"))
	startAPIServer(dir, startEtcd(filepath.Join(dir, "etcd")), address, filepath.Join(dir, "tokens.csv"))
	writeKubeconfig(kubeconfig, address, filepath.Join(dir, "apiserver.crt"), tokens)
	client := connectWhenReady(ctx, kubeconfig)
	fmt.Println("export ATELIER_TEST_KUBECONFIG=" + kubeconfig)
	runControllers(ctx, client)
}
