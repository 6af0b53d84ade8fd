// What a program on etcd's own Go client does with a server: run by tests/clients.rs.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const patience = 60 * time.Second

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func demand(holds bool, what string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(what, values...))
	}
}

var input = bufio.NewReader(os.Stdin)

// restart asks the test to kill the member and start it again.
func restart() {
	fmt.Println("restart")
	line, err := input.ReadString('\n')
	check(err)
	demand(line == "done\n", "the test said %q", line)
}

func keys(ctx context.Context, c *clientv3.Client) {
	for _, key := range []string{"go/a", "go/b", "go/c"} {
		_, err := c.Put(ctx, key, key)
		check(err)
	}
	got, err := c.Get(ctx, "go/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(2))
	check(err)
	demand(got.Count == 3 && len(got.Kvs) == 2 && string(got.Kvs[0].Key) == "go/c" && got.More, "%v", got)
	_, err = c.Get(ctx, "go/a", clientv3.WithRev(got.Header.Revision+100))
	demand(errors.Is(err, rpctypes.ErrFutureRev), "%v", err)
	deleted, err := c.Delete(ctx, "go/b", clientv3.WithPrevKV())
	check(err)
	demand(deleted.Deleted == 1 && string(deleted.PrevKvs[0].Value) == "go/b", "%v", deleted)
}

func transactions(ctx context.Context, c *clientv3.Client) {
	done, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value("go/a"), "=", "go/a")).
		Then(clientv3.OpPut("go/a", "2"), clientv3.OpGet("go/a")).Else(clientv3.OpDelete("go/a")).Commit()
	check(err)
	demand(done.Succeeded && string(done.Responses[1].GetResponseRange().Kvs[0].Value) == "2", "%v", done)
	_, err = concurrency.NewSTM(c, func(stm concurrency.STM) error {
		stm.Put("go/a", stm.Get("go/a")+"!")
		return nil
	})
	check(err)
	got, err := c.Get(ctx, "go/a")
	check(err)
	demand(string(got.Kvs[0].Value) == "2!", "%v", got)
}

// watches: the client resumes the watch by itself when its member comes back.
func watches(ctx context.Context, c *clientv3.Client) {
	begun, err := c.Put(ctx, "go/w/0", "0")
	check(err)
	seen := c.Watch(clientv3.WithRequireLeader(ctx), "go/w/", clientv3.WithPrefix(), clientv3.WithRev(begun.Header.Revision))
	next := 0
	until := func(last int) {
		for next <= last {
			response, open := <-seen
			demand(open, "the watch ended")
			check(response.Err())
			for _, event := range response.Events {
				demand(string(event.Kv.Key) == fmt.Sprintf("go/w/%d", next), "event %d is %v", next, event)
				next++
			}
		}
	}
	for number := 1; number < 10; number++ {
		_, err := c.Put(ctx, fmt.Sprintf("go/w/%d", number), "x")
		check(err)
	}
	until(9)
	restart()
	for number := 10; number < 20; number++ {
		// The key itself tells whether a put that was broken off has happened.
		key := fmt.Sprintf("go/w/%d", number)
		for {
			done, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, "x")).Commit()
			if err == nil {
				_ = done
				break
			}
			check(ctx.Err())
		}
	}
	until(19)
}

func leases(ctx context.Context, c *clientv3.Client) {
	lease, err := c.Grant(ctx, 2)
	check(err)
	_, err = c.Put(ctx, "go/leased", "x", clientv3.WithLease(lease.ID))
	check(err)
	alive, stop := context.WithCancel(ctx)
	renewals, err := c.KeepAlive(alive, lease.ID)
	check(err)
	for range 4 {
		renewal, open := <-renewals
		demand(open && renewal.TTL == 2, "%v", renewal)
	}
	got, err := c.Get(ctx, "go/leased")
	check(err)
	demand(got.Count == 1, "a lease that was kept alive ended")
	stop()
	for response := range c.Watch(ctx, "go/leased", clientv3.WithRev(got.Kvs[0].ModRevision+1)) {
		check(response.Err())
		if len(response.Events) > 0 {
			demand(response.Events[0].Type == clientv3.EventTypeDelete, "%v", response.Events[0])
			break
		}
	}
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	demand(errors.Is(err, rpctypes.ErrLeaseNotFound), "%v", err)
}

func locks(ctx context.Context, c *clientv3.Client) {
	var inside, most atomic.Int32
	done := make(chan error)
	for range 8 {
		go func() {
			session, err := concurrency.NewSession(c, concurrency.WithTTL(30))
			if err != nil {
				done <- err
				return
			}
			defer session.Close()
			mutex := concurrency.NewMutex(session, "go-lock")
			if err := mutex.Lock(ctx); err != nil {
				done <- err
				return
			}
			most.Store(max(most.Load(), inside.Add(1)))
			_, err = c.Put(ctx, "go/work", "x")
			inside.Add(-1)
			done <- errors.Join(err, mutex.Unlock(ctx))
		}()
	}
	for range 8 {
		check(<-done)
	}
	demand(most.Load() == 1, "%d held the lock", most.Load())
}

func elections(ctx context.Context, c *clientv3.Client) {
	first, err := concurrency.NewSession(c, concurrency.WithTTL(30))
	check(err)
	second, err := concurrency.NewSession(c, concurrency.WithTTL(30))
	check(err)
	observed := concurrency.NewElection(first, "go-office").Observe(ctx)
	until := func(value string) {
		for leader := range observed {
			if string(leader.Kvs[0].Value) == value {
				return
			}
		}
		panic("the observation ended before " + value)
	}
	one, two := concurrency.NewElection(first, "go-office"), concurrency.NewElection(second, "go-office")
	check(one.Campaign(ctx, "one"))
	until("one")
	won := make(chan error)
	go func() { won <- two.Campaign(ctx, "two") }()
	check(one.Proclaim(ctx, "one again"))
	until("one again")
	check(one.Resign(ctx))
	check(<-won)
	until("two")
	// A session that ends takes its leadership with it.
	check(second.Close())
	_, err = one.Leader(ctx)
	demand(errors.Is(err, concurrency.ErrElectionNoLeader), "%v", err)
	check(first.Close())
}

func maintenance(ctx context.Context, c *clientv3.Client, endpoint string) {
	status, err := c.Status(ctx, endpoint)
	check(err)
	demand(status.Leader == status.Header.MemberId && status.Version != "", "%v", status)
	members, err := c.MemberList(ctx)
	check(err)
	demand(len(members.Members) == 1 && members.Members[0].Name == "m1", "%v", members)
	check(c.Sync(ctx))
	_, err = c.Compact(ctx, status.Header.Revision, clientv3.WithCompactPhysical())
	check(err)
	_, err = c.Get(ctx, "go/a", clientv3.WithRev(status.Header.Revision-1))
	demand(errors.Is(err, rpctypes.ErrCompacted), "%v", err)
	_, err = c.Defragment(ctx, endpoint)
	check(err)
	_, err = c.AlarmList(ctx)
	check(err)
}

func main() {
	endpoint := os.Args[1]
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience, DialKeepAliveTime: 10 * time.Second})
	check(err)
	defer c.Close()
	step := func(run func(context.Context, *clientv3.Client)) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		run(ctx, c)
	}
	step(keys)
	step(transactions)
	step(watches)
	step(leases)
	step(locks)
	step(elections)
	step(func(ctx context.Context, c *clientv3.Client) { maintenance(ctx, c, endpoint) })
}
