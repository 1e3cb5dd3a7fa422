#include <signal.h>
#include <stdio.h>

#include "core/log.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"

/* The sandbox of a node, for processes that may not build one themselves. */

static volatile sig_atomic_t stop;

static void ask_to_stop(int sig)
{
    stop = 1;
    signal(sig, SIG_DFL);
}

/* Builds a pool once, with the attacks on its first box: a daemon that could not keep its promise does not start. */
static status try_once(const box_opts *o)
{
    box_pool *pool = NULL;
    box_opts one = *o;
    one.socket = NULL;
    one.max_live = 1;
    one.spares = 0;
    TRY(box_pool_create(&pool, &one));
    log_info("sandbox tier %s", box_tier_name(box_pool_tier(pool)));
    box_pool_destroy(pool);
    return ST_OK;
}

status cmd_boxd(int argc, char **argv)
{
    const char *path = NULL, *group = NULL;
    int64_t max_clients = 16;
    arg_list files = {0}, sets = {0};
    bool helped = false;
    const arg table[] = {
        {"listen", ARG_STR, &path, "PATH", "the socket to serve at; a dead daemon's is replaced"},
        {"group", ARG_STR, &group, "GROUP",
         "whose members may connect, beside this user and root (mode 0660, else 0600)"},
        {"max-clients", ARG_INT, &max_clients, "N", "processes served at the same time, 1 to 64 (default 16)"},
        {"config", ARG_LIST, &files, "FILE", "config whose sandbox section is the most that a client may ask for"},
        {"set", ARG_LIST, &sets, "S.K=V", "override a config key, such as sandbox.max_live"},
        {NULL, ARG_FLAG, NULL, NULL, NULL}};
    TRY(args_parse(
        argc, argv,
        "Serve boxes to other processes of this machine, such as ranks in containers, which name the socket\n"
        "in sandbox.socket. Every client has processes of its own; with it or with this daemon its boxes end.",
        "codedance boxd --listen /run/codedance.sock --group gpuusers --set sandbox.memory_mib=2048", table, NULL,
        &helped));
    if (helped) return ST_OK;
    if (!path) return args_usage("give --listen PATH");
    config *cfg = NULL;
    box_config c = {0};
    box_opts o;
    status st = config_load(&cfg, files.v, files.n, sets.v, sets.n);
    if (st == ST_OK) st = config_bind(cfg, "sandbox", box_fields, &c);
    if (st == ST_OK) st = config_check(cfg, config_sections);
    if (st == ST_OK) st = config_finish(cfg);
    if (st == ST_OK) st = box_config_opts(&c, cfg, &o);
    if (st == ST_OK) st = try_once(&o);
    signal(SIGINT, ask_to_stop);
    signal(SIGTERM, ask_to_stop);
    if (st == ST_OK) st = box_listen(path, group, (int)max_clients, &o, &stop);
    config_destroy(cfg);
    return st;
}
