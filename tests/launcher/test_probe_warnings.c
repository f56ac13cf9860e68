/* Each warning comes when its cause is there, names it and says what to do; and else does not. */
#include "launcher/probe/warnings.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { N_RANK = 4, N_HOST = 2 };

typedef struct fixture {
    shoal_probe_message m;
    shoal_probe_facts facts[N_RANK];
    double clock_error_s[N_HOST];
    shoal_probe_warning warning[SHOAL_PROBE_N_WARNING];
    int32_t n;
} fixture;

static shoal_probe_interface an_interface(const char *name, const char *address, const char *driver,
                                          int32_t mbit_per_s)
{
    shoal_probe_interface i = {.n_prefix = 24, .mbit_per_s = mbit_per_s};
    snprintf(i.name, sizeof i.name, "%s", name);
    snprintf(i.address, sizeof i.address, "%s", address);
    snprintf(i.driver, sizeof i.driver, "%s", driver);
    i.kind = (int32_t)shoal_probe_interface_kind_of(name, driver);
    return i;
}

/* Two good hosts with two ranks each and 10 Gbit/s between them. */
static void fixture_open(fixture *f)
{
    *f = (fixture){.clock_error_s = {0, 0.001}};
    ck_assert_int_eq(shoal_probe_message_open(&f->m, N_HOST, N_RANK, NULL), SHOAL_OK);
    f->m.host[1].clock_s = 0.01;
    for (int32_t r = 0; r < N_RANK; r++) {
        shoal_probe_facts *facts = &f->facts[r];
        f->m.rank[r].host = r / 2;
        *facts = (shoal_probe_facts){.n_core_host = 16,
                                     .n_core = 16,
                                     .n_thread = 8,
                                     .n_numa = 1,
                                     .memory_bytes = UINT64_C(64000000000),
                                     .free_bytes = UINT64_C(60000000000),
                                     .n_interface = 2};
        snprintf(facts->host, sizeof facts->host, "fish%d", (int)r / 2 + 1);
        snprintf(facts->machine, sizeof facts->machine, "boot%d", (int)r / 2 + 1);
        snprintf(facts->build, sizeof facts->build, "0.1.0 (abc)");
        snprintf(facts->mpi, sizeof facts->mpi, "Open MPI 4.1.4");
        snprintf(facts->kernels, sizeof facts->kernels, "avx2");
        snprintf(facts->governor, sizeof facts->governor, "performance");
        facts->interface[0] = an_interface("eth0", "10.0.0.1", "ixgbe", 10000);
        facts->interface[1] = an_interface("lo", "127.0.0.1", "", 0);
    }
    for (int32_t a = 0; a < N_RANK; a++) {
        for (int32_t b = 0; b < N_RANK; b++) {
            shoal_probe_link *link = shoal_probe_message_link(&f->m, a, b);
            if (a == b)
                continue;
            *link = (shoal_probe_link){.gb_per_s = 1.1F, .path = SHOAL_PROBE_PATH_MEMORY};
            if (a / 2 != b / 2) {
                link->path = SHOAL_PROBE_PATH_TCP;
                snprintf(link->interface, sizeof link->interface, "eth0");
            }
        }
    }
}

static const shoal_probe_warning *find(fixture *f, shoal_probe_warning_kind kind)
{
    f->n = shoal_probe_warnings(f->warning, &f->m, f->facts, f->clock_error_s);
    for (int32_t i = 0; i < f->n; i++)
        if (f->warning[i].kind == kind)
            return &f->warning[i];
    return NULL;
}

/* `change` of a fixture f makes this warning and no other, with both texts in it. */
#define WARNS(name, cause, advice, change)                                                         \
    do {                                                                                           \
        fixture f;                                                                                 \
        fixture_open(&f);                                                                          \
        change;                                                                                    \
        const shoal_probe_warning *w = find(&f, SHOAL_PROBE_WARNING_##name);                       \
        ck_assert_msg(w != NULL, "no warning " #name);                                             \
        ck_assert_int_eq(f.n, 1);                                                                  \
        ck_assert_msg(strstr(w->text, cause) != NULL, "'%s' has no '%s'", w->text, cause);         \
        ck_assert_msg(strstr(w->text, advice) != NULL, "'%s' has no '%s'", w->text, advice);       \
        ck_assert_uint_lt(strlen(w->text), sizeof w->text - 1);                                    \
        shoal_probe_message_close(&f.m);                                                           \
    } while (0)

#define SILENT(change)                                                                             \
    do {                                                                                           \
        fixture f;                                                                                 \
        fixture_open(&f);                                                                          \
        change;                                                                                    \
        f.n = shoal_probe_warnings(f.warning, &f.m, f.facts, f.clock_error_s);                     \
        ck_assert_msg(f.n == 0, "'%s'", f.warning[0].text);                                        \
        shoal_probe_message_close(&f.m);                                                           \
    } while (0)

static void set_text(char *to, const char *text)
{
    memcpy(to, text, strlen(text) + 1);
}

static void name_both_hosts_alike(fixture *f)
{
    for (int32_t r = 2; r < N_RANK; r++)
        set_text(f->facts[r].host, "fish1");
}

START_TEST(software)
{
    SILENT((void)0);
    WARNS(SAME_NAME, "both called fish1", "hostnamectl", name_both_hosts_alike(&f));
    WARNS(BUILD, "rank 3 (fish2) is shoal 0.2.0", "install the same",
          set_text(f.facts[3].build, "0.2.0 (def)"));
    WARNS(MPI, "rank 2 (fish2) runs Open MPI 5.0.1 (and 1 more)", "install the same", {
        set_text(f.facts[2].mpi, "Open MPI 5.0.1");
        set_text(f.facts[3].mpi, "Open MPI 5.0.1");
    });
    WARNS(KERNELS, "rank 1 (fish1) computes with avx512", "--placement weighted",
          set_text(f.facts[1].kernels, "avx512"));
    WARNS(CLOCK, "fish2 is 2.0 s behind", "chrony", f.m.host[1].clock_s = -2);
    SILENT({
        f.m.host[1].clock_s = 2; /* measured over a link of seconds */
        f.clock_error_s[1] = 1.8;
    });
}
END_TEST

START_TEST(processors)
{
    WARNS(BOUND, "rank 1 (fish1) is bound to 1 of its host's 16 cores", "--bind-to none",
          f.facts[1].n_core = 1);
    SILENT(f.facts[1].n_core = 8); /* its half of the host */
    WARNS(QUOTA, "cgroup grants the host's ranks 12.0", "--threads", {
        f.facts[0].cpu_quota = 12;
        f.facts[1].cpu_quota = 12;
    });
    SILENT(f.facts[0].cpu_quota = 16);
    WARNS(GOVERNOR, "fish2 keeps its clock low", "cpupower", {
        set_text(f.facts[2].governor, "powersave");
        set_text(f.facts[3].governor, "powersave");
    });
    WARNS(THROTTLED, "fish1 were slowed down by heat 7 times", "cooling",
          f.facts[0].n_throttle_run = 7);
    SILENT(f.facts[0].n_throttle = 7); /* before */
}
END_TEST

START_TEST(memory)
{
    WARNS(MEMORY, "only 20.0 of 64.0 GB of fish1", "end what else", {
        f.facts[0].free_bytes = UINT64_C(20000000000);
        f.facts[1].free_bytes = UINT64_C(20000000000);
    });
    WARNS(SWAP, "fish2 has 8.0 GB in swap", "swapoff",
          f.facts[2].swap_bytes = UINT64_C(8000000000));
    SILENT(f.facts[2].swap_bytes = UINT64_C(100000000));
}
END_TEST

/* All links of host 0's ranks to the other go over `name`, at a speed. */
static void use_interface(fixture *f, const char *name, float gb_per_s)
{
    for (int32_t a = 0; a < 2; a++) {
        for (int32_t b = 2; b < N_RANK; b++) {
            shoal_probe_link *link = shoal_probe_message_link(&f->m, a, b);
            set_text(link->interface, name);
            link->gb_per_s = gb_per_s;
        }
    }
}

static void add_interface(fixture *f, shoal_probe_interface interface)
{
    for (int32_t r = 0; r < 2; r++)
        f->facts[r].interface[f->facts[r].n_interface++] = interface;
}

START_TEST(links)
{
    WARNS(VIRTUAL_LINK, "over docker0, which is no card", "btl_tcp_if_include 10.0.0.1/24", {
        add_interface(&f, an_interface("docker0", "172.17.0.1", "bridge", 10000));
        use_interface(&f, "docker0", 1.1F);
    });
    SILENT({ /* a container that has nothing else */
             f.facts[0].interface[0] = an_interface("eth0", "172.17.0.2", "veth", 10000);
             f.facts[1].interface[0] = f.facts[0].interface[0];
    });
    WARNS(SLOW_LINK, "over eth1 with 1000 Mbit/s (and 3 more), but has eth0",
          "btl_tcp_if_include 10.0.0.1/24", {
              add_interface(&f, an_interface("eth1", "192.168.1.1", "igb", 1000));
              use_interface(&f, "eth1", 0.118F);
          });
    WARNS(SLOW_LINK, "over eth1 with", "eth0", {
        add_interface(&f, an_interface("eth1", "192.168.1.1", "igb", 1000));
        use_interface(&f, "eth1+eth0", 0.118F);
    });
    WARNS(BELOW_SPEED, "at 0.80 Gbit/s over eth0, which says 10000", "cable",
          use_interface(&f, "eth0", 0.1F));
    SILENT({
        f.facts[0].interface[0].mbit_per_s = 0; /* a virtual machine's card says nothing */
        f.facts[1].interface[0].mbit_per_s = 0;
        use_interface(&f, "eth0", 0.1F);
    });
    WARNS(LOOP_LINK, "ranks 0 and 1 of fish1", "vader", {
        shoal_probe_message_link(&f.m, 0, 1)->path = SHOAL_PROBE_PATH_TCP;
        set_text(shoal_probe_message_link(&f.m, 0, 1)->interface, "lo");
    });
}
END_TEST

START_TEST(names_are_all_there)
{
    for (int32_t k = 0; k < SHOAL_PROBE_N_WARNING; k++)
        ck_assert_uint_gt(strlen(shoal_probe_warning_name((shoal_probe_warning_kind)k)), 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, software);
    SHOAL_TEST(suite, processors);
    SHOAL_TEST(suite, memory);
    SHOAL_TEST(suite, links);
    SHOAL_TEST(suite, names_are_all_there);
}

SHOAL_TEST_MAIN("launcher.probe_warnings", add_tests)
