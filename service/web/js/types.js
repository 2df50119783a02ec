/**
 * Shapes of the service's answers, as far as the page reads them.
 *
 * @typedef {{predicted: number|null, low: number|null, high: number|null, measured: number|null, counts?: number}} Estimate
 *
 * @typedef {Object} Subnet  one point of a front
 * @property {string} id
 * @property {[number, number]} resolution  height, width
 * @property {number} macs
 * @property {number} parameters
 * @property {number} memory_bytes
 * @property {Estimate} [accuracy]
 * @property {Estimate} [latency_ms]
 * @property {Estimate} [energy_mj]
 *
 * @typedef {Object} Front
 * @property {string[]} objectives  such as "max:accuracy"
 * @property {string} accuracy_metric
 * @property {string} device
 * @property {Subnet[]} subnets
 * @property {string|null} knee
 * @property {number} hypervolume
 *
 * @typedef {{width: number, depth: number, kernel: number, expansion: number}} StageArch
 * @typedef {{space: string, resolution: [number, number], stem_width: number, stages: StageArch[]}} Arch
 *
 * @typedef {Object} Layer
 * @property {string} name
 * @property {string} kind
 * @property {number} c_in
 * @property {number} c_out
 * @property {number} kernel
 * @property {number} stride
 * @property {number} height
 * @property {number} width
 * @property {number} macs
 * @property {number} parameters
 *
 * @typedef {Object} Description  all that is known of one subnet
 * @property {string} id
 * @property {[number, number]} resolution
 * @property {number} macs
 * @property {number} parameters
 * @property {number} memory_bytes
 * @property {{accuracy: Object<string, Estimate>, latency_ms: Object<string, Estimate>, energy_mj: Object<string, Estimate>}} predictions
 * @property {Arch} arch
 * @property {Layer[]} layers
 *
 * @typedef {{name: string, choices: (number|number[])[]}} Gene
 * @typedef {{name: string, size: number, genes: Gene[], properties: Gene[], smallest: Subnet, largest: Subnet}} Space
 *
 * @typedef {{id: string, default: boolean, space: string, provenance: Object<string, unknown>, card: Object<string, unknown>}} Supernet
 *
 * @typedef {Object} Progress
 * @property {number} generation
 * @property {number} evaluations
 * @property {number} subnets
 * @property {number} hypervolume
 * @property {number} seconds
 * @property {number} fraction
 * @property {number|null} remaining_seconds
 *
 * @typedef {"queued"|"running"|"succeeded"|"failed"|"cancelled"} State
 * @typedef {{type: string, detail: string, field: string|null, remedy: string|null}} Failure
 *
 * @typedef {Object} SearchRequest  what was asked for, with all defaults
 * @property {string[]} objectives
 * @property {string[]} constraints
 * @property {string} accuracy_metric
 * @property {string} device
 * @property {number} seed
 * @property {number|null} [verify]  how many subnets were to be measured
 *
 * @typedef {Object} Manifest  what is known of an exported file
 * @property {string} sha256
 * @property {number} size_bytes
 * @property {number} opset
 * @property {number} parity_error
 * @property {number} [latency_ms]  median of some runs on one thread of the service's machine
 *
 * @typedef {{id: number, kind: string, data: Progress}} SearchEvent
 *
 * @typedef {Object} Search
 * @property {string} id
 * @property {State} state
 * @property {SearchRequest} request
 * @property {string} created_at
 * @property {string|null} started_at
 * @property {string|null} finished_at
 * @property {Progress|null} progress
 * @property {{subnets: number, knee: string|null, hypervolume: number, evaluations: number, seconds: number, reason: string, measurements?: number|null, failures?: number|null}|null} result
 * @property {Failure|null} error
 * @property {boolean} cancel_requested
 * @property {string|null} parent
 *
 * @typedef {Object} Export
 * @property {string} id
 * @property {State} state
 * @property {string} subnet
 * @property {Manifest|null} manifest
 * @property {Failure|null} error
 * @property {{self: string, file?: string}} links
 *
 * @typedef {{n: number, kendall: number, spearman: number, within_5?: number, within_10: number, mae: number}} Quality  of predictions for unseen subnets
 *
 * @typedef {Object} Device
 * @property {string} id
 * @property {boolean} default
 * @property {boolean} builtin
 * @property {"fitting"|"ready"|"failed"} state
 * @property {string[]} supernets
 * @property {string} runtime
 * @property {number|null} threads
 * @property {string} description
 * @property {Quality|null} quality
 * @property {Quality|null} energy_quality  null where the energy is not known
 * @property {{measured: number[], predicted: number[]}|null} held_out  milliseconds
 * @property {string[]} notes
 * @property {Failure|null} error
 *
 * @typedef {Object} Model  a reference model, measured like a subnet
 * @property {string} id
 * @property {string} title
 * @property {string} [task]  saliency, or salient object
 * @property {number} macs
 * @property {number} parameters
 * @property {number} [memory_bytes]
 * @property {Object<string, number>} [held_out_accuracy]  by metric, on the photos that predictions speak of
 * @property {Object<string, number>} latency_ms  by device
 *
 * @typedef {Object} Map_  a saliency map as 8-bit grey values
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray} values
 * @property {number|null} milliseconds  time that the service took
 */

export {};
