/*
 * Linkable forms of DPDK functions that exist only as static inline in its headers.
 * The leading underscore is the name capsule calls them by.
 */
#ifndef CAPSULE_FFI_SHIM_H
#define CAPSULE_FFI_SHIM_H

#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;

int _rte_errno(void);
unsigned int _rte_lcore_id(void);
uint64_t _rte_get_tsc_cycles(void);
uint64_t _rte_get_tsc_hz(void);

struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *pool);
int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void _rte_pktmbuf_free(struct rte_mbuf *mbuf);
void _rte_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned int count);

uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

#endif
