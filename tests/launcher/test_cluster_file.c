/* Cluster files: what they give, every example, and what is refused with which words. */
#include "launcher/cluster/cluster_file.h"
#include "launcher/cluster/cluster_presets.h"
#include "tests/support/check_main.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static shoal_log log_;

static shoal_log *fresh_log(void)
{
    shoal_log_init(&log_, NULL, 0, "test");
    log_.capture = true;
    return &log_;
}

static const char *example(char path[512], const char *name)
{
    snprintf(path, 512, "%s/configs/%s", getenv("SHOAL_SOURCE_DIR"), name);
    return path;
}

/* A file with this text; removed by the caller. */
static const char *file_of(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/shoal-cluster-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void check_cluster(const shoal_cluster *c)
{
    for (int32_t r = 0; r < c->n_rank; r++) {
        const shoal_cluster_rank *rank = &c->rank[r];
        ck_assert(rank->host >= 0 && rank->host < c->n_host);
        ck_assert(rank->memory_bytes > 1000000000u && rank->read_gb_per_s > 1);
        ck_assert(rank->f32_gflop_per_s > 1);
        const bool gpu = rank->gpu >= 0;
        ck_assert((rank->layer_us > 0) == !gpu && (rank->launch_us > 0) == gpu);
        ck_assert((rank->pcie_gb_per_s > 0) == gpu && (rank->wait_us > 0) == gpu);
        for (int f = 0; f < SHOAL_N_FORMAT; f++) {
            ck_assert(rank->decode_gb_per_s[f] > 0);
            ck_assert(rank->decode_gb_per_s[f] <= rank->read_gb_per_s);
            ck_assert(rank->prefill_gop_per_s[f] > 1);
        }
        for (int32_t q = 0; q < c->n_rank; q++) {
            const shoal_cluster_link *l = shoal_cluster_link_at(c, r, q);
            ck_assert((l->gb_per_s > 0) == (r != q));
            ck_assert((l->latency_us > 0) == (r != q));
        }
    }
}

START_TEST(reads_every_example)
{
    char path[512];
    DIR *dir = opendir(example(path, ""));
    ck_assert_ptr_nonnull(dir);
    int n = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strncmp(e->d_name, "cluster-", 8) != 0)
            continue;
        (void)example(path, e->d_name);
        shoal_cluster c;
        shoal_cluster_launch l;
        shoal_status status = shoal_cluster_read_file(&c, path, fresh_log());
        ck_assert_msg(status == SHOAL_OK, "%s: %s", path, log_.error);
        ck_assert_int_eq(shoal_cluster_read_launch(&l, path, fresh_log()), SHOAL_OK);
        check_cluster(&c);
        shoal_cluster_close(&c);
        shoal_cluster_launch_close(&l);
        n++;
    }
    closedir(dir);
    ck_assert_int_eq(n, 9);
}
END_TEST

START_TEST(alike_hosts_are_numbered)
{
    char path[512];
    shoal_cluster c;
    ck_assert_int_eq(
        shoal_cluster_read_file(&c, example(path, "cluster-32-mini-pcs.yaml"), fresh_log()),
        SHOAL_OK);
    ck_assert_int_eq(c.n_host, 33);
    ck_assert_int_eq(c.n_rank, 33);
    ck_assert_str_eq(c.host[0].name, "head");
    ck_assert_str_eq(c.host[1].name, "mini01");
    ck_assert_str_eq(c.host[32].name, "mini32");
    ck_assert_str_eq(c.host[32].address, "192.168.1.132");
    ck_assert_int_eq(c.rank[0].gpu, 0);
    ck_assert_int_eq(c.rank[32].gpu, -1);
    ck_assert_int_eq(c.rank[32].n_thread, 4);
    /* 2.5 Gbit/s of which 94 % are payload, wherever the faster card is */
    ck_assert_double_eq_tol(shoal_cluster_link_at(&c, 0, 5)->gb_per_s, 0.29375, 1e-9);
    ck_assert_double_eq_tol(c.host[0].nic_gb_per_s, 2.9375, 1e-9);
    shoal_cluster_close(&c);
}
END_TEST

START_TEST(ranks_of_a_host_share_it)
{
    char path[512];
    shoal_cluster c;
    ck_assert_int_eq(
        shoal_cluster_read_file(&c, example(path, "cluster-4-cpu-nodes.yaml"), fresh_log()),
        SHOAL_OK);
    ck_assert_int_eq(c.n_host, 4);
    ck_assert_int_eq(c.n_rank, 8);
    ck_assert_int_eq(c.rank[1].host, 0);
    ck_assert_int_eq(c.rank[2].host, 1);
    ck_assert_int_eq(c.rank[3].n_thread, 64);
    ck_assert_double_eq_tol(c.rank[3].read_gb_per_s, 368, 1e-9);
    ck_assert_uint_eq(c.rank[3].memory_bytes, 360960000000); /* (768 - 6 %) / 2 */
    ck_assert(shoal_cluster_link_at(&c, 0, 1)->latency_us <
              shoal_cluster_link_at(&c, 0, 2)->latency_us);
    shoal_cluster_close(&c);
    ck_assert_int_eq(
        shoal_cluster_read_file(&c, example(path, "cluster-hybrid-box.yaml"), fresh_log()),
        SHOAL_OK);
    ck_assert_int_eq(c.n_rank, 2);
    ck_assert_int_eq(c.rank[0].gpu, 0);
    ck_assert_int_eq(c.rank[1].gpu, -1);
    ck_assert_uint_eq(c.rank[0].memory_bytes, 24400000000);
    ck_assert_str_eq(c.rank[0].device, "GeForce RTX 4090");
    shoal_cluster_close(&c);
}
END_TEST

START_TEST(gives_the_launch_part)
{
    char path[512];
    shoal_cluster_launch l;
    ck_assert_int_eq(
        shoal_cluster_read_launch(&l, example(path, "cluster-4-cpu-nodes.yaml"), fresh_log()),
        SHOAL_OK);
    ck_assert_str_eq(l.binary, "/shared/shoal/bin/shoal");
    ck_assert_ptr_null(l.interface);
    ck_assert(l.has_slurm);
    ck_assert_str_eq(l.slurm.time, "04:00:00");
    ck_assert_int_eq(l.slurm.n_node, 4);
    ck_assert_int_eq(l.slurm.n_option, 1);
    ck_assert_str_eq(l.slurm.option[0], "--exclusive");
    shoal_cluster_launch_close(&l);
    ck_assert_int_eq(
        shoal_cluster_read_launch(&l, example(path, "cluster-hybrid-box.yaml"), fresh_log()),
        SHOAL_OK);
    ck_assert_ptr_null(l.binary);
    ck_assert(!l.has_slurm);
    shoal_cluster_launch_close(&l);
}
END_TEST

#define HOST "name: a, cores: 4, memory_gb: 16, memory_bandwidth_gb_per_s: 20, cpu: avx2"

static const struct bad {
    const char *text, *words[3];
} bad[] = {
    {"", {"is empty"}},
    {"hosts: 3\n", {"hosts"}},
    {"network: {gbit_per_s: 1}\n", {"hosts"}},
    {"hosts: []\n", {"0 ranks", "1 to 1024"}},
    {"hosts: [{cores: 4}]\n", {"name"}},
    {"hosts: [{" HOST ", color: red}]\n", {"color"}},
    {"hosts: [{" HOST ", count: 0}]\n", {"host a: count is \"0\"", "1 to 1024"}},
    {"hosts: [{" HOST ", count: 2000}]\n", {"host a: count is \"2000\""}},
    {"hosts: [{" HOST ", count: 1024}, {" HOST "}]\n", {"1025 ranks"}},
    {"hosts: [{" HOST "}, {" HOST "}]\n", {"two hosts are called a"}},
    {"hosts: [{" HOST ", address: 10.0.0.300, count: 2}]\n", {"10.0.0.300", "IPv4"}},
    {"hosts: [{" HOST ", address: fish.local, count: 2}]\n", {"fish.local", "IPv4"}},
    {"hosts: [{name: a, cores: 4, memory_gb: 16x, cpu: avx2}]\n", {"memory_gb is \"16x\""}},
    {"hosts: [{name: a, cores: 4, cpu: avx2}]\n", {"memory_gb is missing"}},
    {"hosts: [{name: a, memory_gb: 16, cpu: n100}]\n", {"cores is missing"}},
    {"hosts: [{name: a, cores: 4, memory_gb: 16, cpu: avx2}]\n",
     {"memory_bandwidth_gb_per_s is missing"}},
    {"hosts: [{name: a, cores: 4, memory_gb: 16, memory_bandwidth_gb_per_s: 9}]\n",
     {"cpu is missing", "int8_top_per_s"}},
    {"hosts: [{name: a, cores: 4, memory_gb: 16, cpu: z80}]\n", {"z80", "avx512vnni", "n100"}},
    {"hosts: [{" HOST ", reserve_gb: 16}]\n", {"reserve_gb", "less than memory_gb"}},
    {"hosts: [{" HOST ", ranks: [gpu]}]\n", {"ranks is \"gpu\"", "cpu or cuda"}},
    {"hosts: [{" HOST ", ranks: [cuda]}]\n", {"names 1 GPUs, but gpus lists 0"}},
    {"hosts: [{" HOST ", watts: -3}]\n", {"watts is \"-3\""}},
    {"hosts: [{" HOST ", price_per_hour: 1,5}]\n", {""}},
    {"hosts: [{" HOST ", gpus: [{model: voodoo2}]}]\n", {"voodoo2", "rtx4090", "all figures"}},
    {"hosts: [{" HOST ", gpus: [{model: h100, count: 99}]}]\n", {"gpus: count is \"99\""}},
    {"network: {gbit_per_s: fast}\nhosts: [{" HOST "}]\n", {"network: gbit_per_s is \"fast\""}},
    {"network: {gbit_per_s: 0}\nhosts: [{" HOST "}]\n", {"gbit_per_s is 0"}},
    {"hosts: [{" HOST "}\n", {""}}, /* not YAML */
};

START_TEST(says_what_is_wrong)
{
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char path[64];
        shoal_cluster c;
        file_of(path, bad[i].text);
        shoal_status status = shoal_cluster_read_file(&c, path, fresh_log());
        unlink(path);
        ck_assert_msg(status == SHOAL_BAD_DATA, "%s: status %d", bad[i].text, (int)status);
        ck_assert_msg(strstr(log_.error, path) != NULL, "%s: %s", bad[i].text, log_.error);
        for (int w = 0; w < 3 && bad[i].words[w] != NULL; w++)
            ck_assert_msg(strstr(log_.error, bad[i].words[w]) != NULL, "%s: \"%s\" not in: %s",
                          bad[i].text, bad[i].words[w], log_.error);
    }
    shoal_cluster c;
    ck_assert_int_eq(shoal_cluster_read_file(&c, "/nowhere/c.yaml", fresh_log()), SHOAL_NO_INPUT);
}
END_TEST

START_TEST(checks_the_launch_part)
{
    static const struct bad launch[] = {
        {"hosts: [{" HOST "}]\nlaunch: {environment: [NOTHING]}\n", {"NOTHING", "NAME=VALUE"}},
        {"hosts: [{" HOST "}]\nlaunch: {slurm: {nodes: many}}\n", {"many", "1 to"}},
        {"hosts: [{" HOST "}]\nlaunch: {port: 3}\n", {"port"}},
    };
    for (size_t i = 0; i < sizeof launch / sizeof launch[0]; i++) {
        char path[64];
        shoal_cluster_launch l;
        file_of(path, launch[i].text);
        ck_assert_int_eq(shoal_cluster_read_launch(&l, path, fresh_log()), SHOAL_BAD_DATA);
        unlink(path);
        for (int w = 0; w < 3 && launch[i].words[w] != NULL; w++)
            ck_assert_msg(strstr(log_.error, launch[i].words[w]) != NULL, "%s", log_.error);
    }
}
END_TEST

START_TEST(figures_of_the_file_replace_the_presets)
{
    char path[64];
    shoal_cluster c;
    file_of(path,
            "hosts: [{name: a, cores: 3, memory_gb: 100, reserve_gb: 10, cpu: n100, "
            "memory_bandwidth_gb_per_s: 50, f32_tflop_per_s: 1, ranks: [cpu, cuda, cpu], "
            "gpus: [{model: mine, memory_gb: 11, memory_bandwidth_gb_per_s: 400, "
            "half_tflop_per_s: 50, f32_tflop_per_s: 10, pcie_gb_per_s: 3, launch_us: 4}]}]\n");
    ck_assert_int_eq(shoal_cluster_read_file(&c, path, fresh_log()), SHOAL_OK);
    unlink(path);
    ck_assert_int_eq(c.n_rank, 3);
    ck_assert_uint_eq(c.rank[0].memory_bytes, 45000000000);
    ck_assert_uint_eq(c.rank[1].memory_bytes, 10000000000);
    ck_assert_int_eq(c.rank[0].n_thread, 2);
    ck_assert_int_eq(c.rank[2].n_thread, 1);
    ck_assert_double_eq_tol(c.rank[2].read_gb_per_s, 25, 1e-9);
    ck_assert_double_eq_tol(c.rank[2].prefill_gop_per_s[SHOAL_FORMAT_BF16], 450, 1e-6);
    ck_assert_double_eq_tol(c.rank[2].prefill_gop_per_s[SHOAL_FORMAT_Q4], 0.58 * 166 * 1.5, 1e-6);
    ck_assert_double_eq_tol(c.rank[1].pcie_gb_per_s, 3, 1e-9);
    ck_assert_double_eq_tol(c.rank[1].launch_us, 4, 1e-9);
    ck_assert_double_eq_tol(c.rank[1].decode_gb_per_s[SHOAL_FORMAT_Q4], 300, 1e-9);
    ck_assert_double_eq_tol(c.rank[1].prefill_gop_per_s[SHOAL_FORMAT_Q4], 25000, 1e-6);
    ck_assert_uint_eq(c.host[0].room_bytes, 90000000000);
    ck_assert_double_eq_tol(shoal_cluster_link_at(&c, 0, 1)->gb_per_s, 5, 1e-9);
    shoal_cluster_close(&c);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, reads_every_example);
    SHOAL_TEST(suite, alike_hosts_are_numbered);
    SHOAL_TEST(suite, ranks_of_a_host_share_it);
    SHOAL_TEST(suite, gives_the_launch_part);
    SHOAL_TEST(suite, says_what_is_wrong);
    SHOAL_TEST(suite, checks_the_launch_part);
    SHOAL_TEST(suite, figures_of_the_file_replace_the_presets);
}

SHOAL_TEST_MAIN("launcher.cluster_file", add_tests)
